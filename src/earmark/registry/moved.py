"""The embedded store after its project was moved or copied: MLflow keeps absolute places of artifacts in its database.

They are brought to where the artifacts lie now before anything is read, so that nothing is ever read from or written to the old place.
"""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from earmark import InputError

log = logging.getLogger(__name__)
PLACES = (  # columns that hold an artifact's address
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
REWRITE = "UPDATE {0} SET {1} = :new || substr({1}, length(:old) + 1) WHERE {1} = :old OR substr({1}, 1, length(:old) + 1) = :old || '/'"


def bring_along(database: Path, experiment: str, artifacts: Path) -> None:
    """Rewrite the places of all that lies below the experiment's in `database`, when they are not below `artifacts`, in one transaction.

    A store whose artifacts lie outside the database's folder on purpose, or elsewhere in it, is left alone.
    Errors: InputError when the artifacts were left behind, or the database cannot be written.
    """
    if not database.exists():
        return
    try:
        with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
            old, new = _place(connection, experiment), artifacts.resolve().as_uri()
            if old and _elsewhere(old, artifacts.resolve(), database.resolve().parent):
                for table, column in PLACES:
                    connection.execute(REWRITE.format(table, column), {"old": old, "new": new})
                log.info("%s was moved: its artifacts are those in %s", database, artifacts)
    except sqlite3.Error as error:
        raise InputError(f"{database}: {error}: make it writable, or restore it from a copy") from error


def _place(connection: sqlite3.Connection, experiment: str) -> str | None:
    """Where the experiment's artifacts are said to lie; None where it is not made yet."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
        return None
    found = connection.execute("SELECT artifact_location FROM experiments WHERE name = ?", (experiment,)).fetchone()
    return found and found[0]


def _elsewhere(stated: str, artifacts: Path, home: Path) -> bool:
    """Whether the stated place is one that the project was at. Errors: InputError when its artifacts are not here."""
    old = Path(unquote(urlsplit(stated).path))
    if not stated.startswith("file:") or old == artifacts or old.is_relative_to(home) or not artifacts.is_relative_to(home):
        return False
    left, here = ({path.name for path in folder.glob("*")} for folder in (old, artifacts))
    if left and not left & here:
        raise InputError(
            f"{home} has an MLflow database whose artifacts lie in {old}: bring that folder to {artifacts}, or set tracking.artifacts to it"
        )
    return True
