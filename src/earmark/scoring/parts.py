"""Tables of a stage that many workers share: a part for each shard of features, complete or absent, made once by the same makers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from rich.progress import track

from earmark import InputError
from earmark.features.shards import Stored, worker
from earmark.params import Section
from earmark.storage.files import read_metadata, read_table, write_table

PARTS = "parts"


def write_parts(
    rows: pd.DataFrame, stored: Stored, output: Path, marks: dict[str, str], shard: str, make: Callable[[pd.DataFrame], pd.DataFrame],
    title: str, show: bool,
) -> bool:  # fmt: skip
    """Make the parts of `rows` that fall to worker i of n (`shard` = "i/n") and are not there with these marks.

    Return whether all workers' parts are there; surplus ones of an earlier run are then removed. Every part says how many there are.
    """
    parts = {
        output / f"{number:05}.parquet": part for number, part in rows.groupby(stored.index.loc[rows["utterance_id"], "shard"].to_numpy())
    }
    marks = marks | {PARTS: str(len(parts))}
    first, workers = worker(shard)
    for path in track(list(parts)[first::workers], title, disable=not show):
        if not is_part(path, marks, parts[path]):
            write_table(path, make(parts[path]), **marks)
    complete = all(is_part(path, marks, part) for path, part in parts.items())
    for surplus in set(output.glob("[0-9]*.parquet")) - set(parts) if complete else ():
        surplus.unlink()
    return complete


def is_part(path: Path, marks: dict[str, str], rows: pd.DataFrame) -> bool:
    """Whether a part has these marks and is of these utterances."""
    try:
        return marks.items() <= read_metadata(path).items() and set(read_table(path)["utterance_id"]) == set(rows["utterance_id"])
    except InputError:  # not there, or damaged
        return False


def collect(folder: Path, stage: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """All parts as one table, and their marks. Errors: InputError when some are missing, or they were not made by the same makers."""
    paths = sorted(folder.glob("[0-9]*.parquet"))
    if not paths:
        raise InputError(f"{folder} holds no table: run {stage} first")
    found = [{key: value for key, value in read_metadata(path).items() if key != "ARROW:schema"} for path in paths]
    for path, marks in zip(paths, found, strict=True):
        if marks != found[0]:
            raise InputError(f"{path} and {paths[0]} were made by different models: run {stage} again for all shards")
    if len(paths) != int(found[0][PARTS]):
        raise InputError(f"{folder} holds {len(paths)} of {found[0][PARTS]} parts: run {stage} for all shards")
    return pd.concat([read_table(path) for path in paths], ignore_index=True), found[0]


def refuse_other_params(meta: dict[str, Any], sections: dict[str, Section], model: Path) -> None:
    """Refuse to use a model that was trained on other features. Errors: InputError naming the setting."""
    for name, section in sections.items():
        for key, value in section.model_dump(mode="json").items():
            if key != "backend" and meta[name].get(key) != value:  # both backends of the CQT compute the same
                raise InputError(
                    f"{model} was trained with {name}.{key} {meta[name].get(key)}, params say {value}: train again or restore params"
                )
