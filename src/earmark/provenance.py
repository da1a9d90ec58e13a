"""Where a model comes from: corpora with licences and digests, code and data revisions."""

import hashlib
import os
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from earmark.params import CorpusParams

LICENCES = {
    "asvspoof2019_la": "ODC-By-1.0",
    "asvspoof2021_la": "ODC-By-1.0",
    "asvspoof2021_df": "ODC-By-1.0",
    "mlaad": "CC-BY-NC-4.0",
    "mlaad_source_tracing": "CC-BY-NC-4.0",
}


def corpora(params: Sequence[CorpusParams], protocol: pd.DataFrame) -> list[dict[str, Any]]:
    """A dict a corpus: name, adapter, licence (None: unknown), trials of each split, digest of all its trials."""
    found = []
    for corpus in params:
        rows = protocol[protocol["corpus"] == corpus.title].sort_values("utterance_id")
        content = rows[["utterance_id", "split", "key", "source", "digest"]].fillna("-").agg(" ".join, axis=1)
        licence = corpus.licence or LICENCES.get(corpus.adapter)
        trials = {str(split): int(count) for split, count in rows["split"].value_counts().sort_index().items()}
        digest = hashlib.sha256("\n".join(content).encode()).hexdigest()
        found.append(
            {
                "name": corpus.title,
                "adapter": corpus.adapter,
                "licence": licence,
                "splits": list(trials),
                "trials": trials,
                "digest": digest,
            }
        )
    return found


def code() -> dict[str, str | None]:
    """Version and commit of earmark, and the digest that data.dvc has of the data; None where there is none."""
    return {"version": version("earmark"), "commit": os.environ.get("EARMARK_COMMIT") or _commit(), "dvc": _data()}


def _commit() -> str | None:
    """The working tree's commit, with + where it has been changed."""
    try:
        asked = [["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"]]
        commit, changed = (subprocess.run(one, capture_output=True, text=True, check=True).stdout.strip() for one in asked)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")


def _data() -> str | None:
    path = Path("data.dvc")
    return yaml.safe_load(path.read_text())["outs"][0]["md5"] if path.exists() else None
