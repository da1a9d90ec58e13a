"""What was fetched once is what is fetched for ever: digests and revisions, kept in sources.lock.json beside the downloads."""

import hashlib
import json
from pathlib import Path
from typing import Any

from earmark import InputError
from earmark.storage.files import write_json
from earmark.storage.redact import shown

LOCK = "sources.lock.json"
FEW = 200  # files of a source up to which each has its own digest in the lock


def summary(digests: dict[str, str]) -> str:
    """One SHA-256 for files by name with theirs."""
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()).hexdigest()


class Pins:
    """The lock file of a folder."""

    def __init__(self, folder: Path):
        self.path = folder / LOCK

    def revision(self, address: str) -> str | None:
        """The exact revision that this address stood for at first."""
        return self._read().get(shown(address), {}).get("revision")

    def check(self, address: str, digests: dict[str, str]) -> None:
        """Hold an address's files against what was pinned. Errors: InputError naming those that differ."""
        pinned = self._read().get(shown(address))
        if pinned and pinned.get("sha256") != summary(digests):
            old = pinned.get("files", {})
            differing = [name for name in sorted(digests) if old.get(name) != digests[name]] if old else []
            what = f" ({', '.join(differing[:5])})" if differing else ""
            raise InputError(
                f"{shown(address)}: not the bytes{what} that {self.path} pins: if they may change, take its entry out and run it again"
            )

    def keep(self, addresses: dict[str, Any]) -> None:
        """Pin what was fetched and found good: digests and revision by address without secrets; what is pinned already stays."""
        before = self._read()
        if not addresses.keys() <= before.keys():
            write_json(self.path, addresses | before)

    def _read(self) -> dict[str, Any]:
        return read_json(self.path, "mend it, or remove it to pin anew")


def read_json(path: Path, advice: str) -> dict[str, Any]:
    """Content of a JSON file, empty where there is none. Errors: InputError with `advice` when it is damaged."""
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        raise InputError(f"{path} is damaged: {advice}") from None
