"""MLAAD: its own meta.csv files, and the source-tracing protocol made over it. Spoof only; bona fide is M-AILABS."""

import logging
from pathlib import Path, PurePosixPath

import pandas as pd

from earmark import InputError
from earmark.corpora.protocol import SPLITS, assemble, keep_apart
from earmark.corpora.text import read_delimited, read_lines

LOG = logging.getLogger(__name__)
PROTOCOL_FOLDER = "mlaad4sourcetracing"
NO_CONDITION = ("original_file", "duration", "transcript")  # as good as unique to a row: nothing to report by


def read(root: Path) -> pd.DataFrame:
    """Trials of MLAAD from `fake/<language>/<model>/meta.csv`. Errors: InputError where there is none."""
    metas = sorted(root.glob("fake/*/*/meta.csv"))
    if not metas:
        raise InputError(f"{root} has no fake/<language>/<model>/meta.csv: give MLAAD's own folder as root")
    rows = pd.concat([_read_meta(path, root) for path in metas]).fillna("")
    return assemble(rows, "mlaad", root)


def _read_meta(path: Path, root: Path) -> pd.DataFrame:
    # split at every pipe: transcripts hold unbalanced quotes
    whole = read_delimited(path, "|", ("path", "language", "model_name"), quotes=False).cells
    table = keep_apart(whole.drop(columns=list(NO_CONDITION), errors="ignore"), path)
    # only the name: whatever prefix the column has, the file lies beside its meta.csv
    names = [PurePosixPath(listed.replace("\\", "/")).name for listed in table["path"]]
    originals = whole.get("original_file", names)
    place = path.parent.relative_to(root)
    table["path"] = table["utterance_id"] = [(place / name).as_posix() for name in names]
    table["group"] = [PurePosixPath(name.replace("\\", "/")).stem for name in originals]
    return table.assign(key="spoof", source=table["model_name"]).drop(columns="model_name")


def read_source_tracing(root: Path) -> pd.DataFrame:
    """Trials of the MLAAD v5 source-tracing protocol, whose csv files lie in `root` or in `root/mlaad4sourcetracing`.

    A system is known when train.csv has it, whatever `fine/` says: `misfiled` marks the rows filed otherwise.
    `strictly_unseen` marks eval rows of systems in neither train nor dev. Rows repeated in a list are dropped, and said;
    `listed` is how often a row stands there, for scoring as the organisers do.
    """
    base = root / PROTOCOL_FOLDER if (root / PROTOCOL_FOLDER).is_dir() else root
    rows = pd.concat([_read_list(base / f"{split}.csv").assign(split=split) for split in SPLITS], ignore_index=True)
    repeated = rows.duplicated(["split", "path", "source"])
    LOG.info("MLAAD source tracing: %d repeated rows dropped (%s)", repeated.sum(), rows["split"][repeated].value_counts().to_dict())
    rows["listed"] = rows.groupby(["split", "path", "source"])["path"].transform("size").map(str)
    rows = rows[~repeated].reset_index(drop=True)
    models = {split: set(rows["source"][rows["split"] == split]) for split in SPLITS}
    known = rows["source"].isin(models["train"])
    rows["quadrant"] = rows["path"].map(_read_quadrants(base)).fillna("")
    rows["misfiled"] = (known & rows["quadrant"].str.endswith("model_not_seen")).map(str)
    rows["strictly_unseen"] = ((rows["split"] == "eval") & ~known & ~rows["source"].isin(models["dev"])).map(str)
    rows["in_domain"] = known.map(str)
    return assemble(_describe(rows), "mlaad_source_tracing", root)


def _read_list(path: Path) -> pd.DataFrame:
    lines = [line.rsplit(",", 1) for _, line in read_lines(path)]
    if not lines or lines[0] != ["path", "model_name"] or any(len(line) != 2 for line in lines):
        raise InputError(f"{path} is not a list of path,model_name: take it from the source-tracing protocol's archive")
    return pd.DataFrame(lines[1:], columns=["path", "source"], dtype="str")


def _read_quadrants(base: Path) -> dict[str, str]:
    """Map a listed path to the quadrant that fine/ files it under, as `lang_seen model_not_seen`."""
    quadrants = {}
    for path in sorted((base / "fine").glob("*___lang_*___model_*.csv")):
        quadrant = " ".join(path.stem.split("___")[1:])
        quadrants.update(dict.fromkeys(_read_list(path)["path"], quadrant))
    return quadrants


def _describe(rows: pd.DataFrame) -> pd.DataFrame:
    """Add what the path tells: `./fake/<language>/<model>/<sentence>.wav`."""
    paths = [PurePosixPath(listed) for listed in rows["path"]]
    return rows.assign(
        utterance_id=[path.as_posix() for path in paths],
        language=[path.parts[1] if len(path.parts) == 4 else "" for path in paths],
        group=[path.stem for path in paths],
        key="spoof",
    )
