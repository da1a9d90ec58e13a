"""In-the-Wild: found recordings and deepfakes of public figures, all of them for evaluation."""

from pathlib import Path

import pandas as pd

from earmark.corpora.protocol import assemble, keep_apart
from earmark.corpora.text import read_delimited, read_fields

FOLDER = "release_in_the_wild"
LABELS = {"bona-fide": "bonafide"}  # the corpus writes a hyphen


def read(root: Path) -> pd.DataFrame:
    """Trials of In-the-Wild; `root` is the folder `release_in_the_wild` or the one that holds it.

    An id is the file's name with its extension, as in published score files. Where meta.csv is absent, a list
    `in_the_wild.protocol.txt` of lines `0.wav eval spoof` serves, without speakers.
    """
    base = root / FOLDER if (root / FOLDER).is_dir() else root
    listed = base / "in_the_wild.protocol.txt"
    if listed.exists() and not (base / "meta.csv").exists():
        rows = read_fields(listed, ("utterance_id", "split", "key"))
    else:
        rows = _read_meta(base / "meta.csv")
    rows["key"] = rows["key"].replace(LABELS)
    return assemble(rows.assign(path=rows["utterance_id"], split="eval"), "in_the_wild", base)


def _read_meta(path: Path) -> pd.DataFrame:
    table = keep_apart(read_delimited(path, ",", ("file", "speaker", "label")).cells, path)
    return table.rename(columns={"file": "utterance_id", "label": "key"})
