"""Where a model comes from: corpora with licences and digests, code and data revisions."""

import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from earmark.params import CorpusParams

Origins = dict[str, dict[str, str]]
ORIGINS = "origins.json"  # tells a step of a cluster, whose folder has no data, where they came from


def corpora(params: Sequence[CorpusParams], protocol: pd.DataFrame) -> list[dict[str, Any]]:
    """A dict a corpus: name, adapter, licence (None: unknown), trials of each split, digest of all its trials."""
    from earmark.download.catalogue import catalogue  # of no use to most who want a commit

    found, known = [], catalogue().corpora
    for corpus in params:
        rows = protocol[protocol["corpus"] == corpus.title]
        licence = corpus.licence or (known[corpus.adapter].licence if corpus.adapter in known else None)
        trials = {str(split): int(count) for split, count in rows["split"].value_counts().sort_index().items()}
        found.append(
            {
                "name": corpus.title,
                "adapter": corpus.adapter,
                "licence": licence,
                "splits": list(trials),
                "trials": trials,
                "digest": digest(rows),
            }
        )
    return found


def digest(rows: pd.DataFrame) -> str:
    """SHA-256 of trials, wherever the corpus lies and however its rows are sorted."""
    table = rows.sort_values("utterance_id").reindex(columns=["utterance_id", "split", "key", "source", "digest"])
    content = table.astype("object").fillna("-").agg(" ".join, axis=1)
    return hashlib.sha256("\n".join(content).encode()).hexdigest()


def code() -> dict[str, Any]:
    """Version and commit of earmark, and as `dvc` which data it was: see `data`; None where it is not known."""
    return {"version": version("earmark"), "commit": commit(), "dvc": data()}


def commit(workspace: Path = Path()) -> str | None:
    """EARMARK_COMMIT, or the git commit of the workspace, `-dirty` behind it where files differ; None outside a repository.

    What a run writes itself does not count: dvc.lock and the figures kept in metrics/.
    """
    try:
        if told := os.environ.get("EARMARK_COMMIT"):
            return told
        changed = _git(workspace, "status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)dvc.lock", ":(exclude)metrics")
        return _git(workspace, "rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(workspace: Path, *command: str) -> str:
    return subprocess.run(["git", "-C", str(workspace.resolve()), *command], capture_output=True, text=True, check=True).stdout.strip()


def data(workspace: Path = Path()) -> str | Origins | None:
    """The digest that data.dvc has of the data; where there is none, their `origins`."""
    tracked = workspace / "data.dvc"
    return yaml.safe_load(tracked.read_text())["outs"][0]["md5"] if tracked.exists() else origins(workspace) or None


def origins(workspace: Path = Path()) -> Origins:
    """Where the data were fetched from: by folder exact addresses, each with the SHA-256 of its files."""
    if (told := workspace / ORIGINS).exists():
        return json.loads(told.read_text())
    from earmark.download.fetch import fetched_from

    return fetched_from(workspace / "data")
