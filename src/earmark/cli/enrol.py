"""The command `earmark enrol`: enrol, list or remove."""

from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from earmark import InputError
from earmark.ensemble.enrolment import Enrolled, describe
from earmark.ensemble.fusion import FILE
from earmark.model.enrol import enrol
from earmark.params import Params
from earmark.storage.printable import printable


def command(
    params: Params, file: Path, protocol: Path, members: Path, ensemble: Path, *,
    clips: Path | None = None, source: str | None = None, show: bool = False, remove: str | None = None,
) -> None:  # fmt: skip
    """Enrol, list or remove: what changes is printed before it is saved. Errors: InputError unless just one of the three is asked for."""
    if [source is not None and clips is not None, show, remove is not None].count(True) != 1 or (source is None) != (clips is None):
        raise InputError("say one of: earmark enrol --source NAME FOLDER, earmark enrol --list, earmark enrol --remove NAME")
    before = Enrolled.load(file, ensemble / FILE)
    if source is not None and clips is not None:
        after, table = enrol(params, source, clips, before, protocol, members, ensemble)
        display(table)
    else:
        after = before if remove is None else before.remove(remove)
        display(describe(after))
    if after.version > before.version:
        after.save(file)
        print(f"version {after.version}: {file}")


def display(table: pd.DataFrame) -> None:
    """Print a table; shares in percent."""
    shown = Table(*table.columns) if len(table) else "no source is enrolled"
    for row in table.itertuples(index=False):
        shown.add_row(*map(_cell, row))  # pyright: ignore
    Console().print(shown)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return escape(printable(str(value)))
    return "–" if np.isnan(value) else f"{100 * value:.1f} %"
