"""ASVspoof2019 LA, and ASVspoof2021 LA and DF with their full keys."""

import logging
from pathlib import Path

import pandas as pd

from earmark.corpora.protocol import SPLITS, assemble
from earmark.corpora.text import read_fields

LOG = logging.getLogger(__name__)
LINES = {"train": "train.trn", "dev": "dev.trl", "eval": "eval.trl"}
COLUMNS_2019 = ("speaker", "utterance_id", "environment", "attack", "key")
COLUMNS_LA = ("speaker", "utterance_id", "codec", "transmission", "attack", "key", "trim", "subset")
COLUMNS_DF = ("speaker", "utterance_id", "compression", "source_corpus", "attack", "key", "trim", "subset")
COLUMNS_DF_MORE = ("vocoder", "task", "team", "gender_pair", "language")


def read_2019_la(root: Path) -> pd.DataFrame:
    """Trials of ASVspoof2019 LA; `root` is the folder `LA` or the one that holds it."""
    base = root / "LA" if (root / "LA").is_dir() else root
    parts = []
    for split in SPLITS:
        lines = base / "ASVspoof2019_LA_cm_protocols" / f"ASVspoof2019.LA.cm.{LINES[split]}.txt"
        part = read_fields(lines, COLUMNS_2019)
        part["path"] = [f"ASVspoof2019_LA_{split}/flac/{name}.flac" for name in part["utterance_id"]]
        parts.append(part.assign(split=split))
    rows = pd.concat(parts).drop(columns="environment")  # empty in LA: it belongs to physical access
    return assemble(rows.assign(source=rows["attack"]), "asvspoof2019_la", base)


def read_2021_la(root: Path) -> pd.DataFrame:
    """Trials of ASVspoof2021 LA, all in eval; the organisers' own subset (progress, eval, hidden) is a condition."""
    return _read_2021(root, "LA", COLUMNS_LA)


def read_2021_df(root: Path) -> pd.DataFrame:
    """Trials of ASVspoof2021 DF, all in eval; the corpus's own column `source` (where the speech is from) is `source_corpus`."""
    return _read_2021(root, "DF", COLUMNS_DF + COLUMNS_DF_MORE)


def _read_2021(root: Path, track: str, columns: tuple[str, ...]) -> pd.DataFrame:
    rows = read_fields(root / "keys" / track / "CM" / "trial_metadata.txt", columns)
    unkeyed = rows["key"] == "-"
    if unkeyed.any():
        LOG.warning("ASVspoof2021 %s: %d trials without key are left out", track, unkeyed.sum())
    rows = rows[~unkeyed]
    paths = [f"ASVspoof2021_{track}_eval/flac/{name}.flac" for name in rows["utterance_id"]]
    return assemble(rows.assign(path=paths, split="eval", source=rows["attack"]), f"asvspoof2021_{track.lower()}", root)
