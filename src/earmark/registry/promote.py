"""Promotion and rollback: aliases move in an order that a repeated call completes, and each move leaves a record.

A promotion goes by the version number of the gate's decision. MLflow has no compare-and-swap, so the champion is read right before its
alias is set, and again after it: of two promotions at once the later one stands, and whoever finds another champion is refused.
A version's tag `record` holds the SHA-256 of the record that made it champion; the record is an artifact of the version's run.
"""

import hashlib
import json
import logging
import tempfile
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earmark import InputError
from earmark.params import TrackingParams
from earmark.registry.bundle import SCHEMA
from earmark.registry.pipeline import who
from earmark.registry.rules import Finding
from earmark.registry.server import connected
from earmark.registry.versions import (
    BUNDLE,
    CHALLENGER,
    CHAMPION,
    COMMERCIAL,
    EVALUATION,
    NAME,
    PREVIOUS,
    at,
    numbered,
    set_alias,
    set_tag,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

log = logging.getLogger(__name__)
RECORD, ALLOWED = "record", "commercial_use"
UNDER_WAY = "rollback"  # a version's tag while it comes back; empty afterwards, since not all who may set a tag may delete it
AGAIN = "run the stages register and gate again (`dvc repro --force --single-item register gate`)"


def promote(tracking: TrackingParams, decision: Path, by: str | None = None) -> dict[str, Any]:
    """Make the version of the decision champion, and return the record. A decision that made the champion already changes nothing.

    Errors: InputError when a rule failed (which, by how much), when version or champion are no longer those of the decision, or when
    another champion was made meanwhile.
    """
    content = _read(decision)
    decided = json.loads(content)
    _require_pass(decided, decision)
    with connected(tracking) as store:
        client = store.client
        winner, digest = _judged(client, decided["challenger"]), hashlib.sha256(content).hexdigest()
        champion, stored = at(client, CHAMPION), _stored(client, winner, digest)
        if champion is not None and champion.version == winner.version and stored and winner.tags.get(RECORD) == _digest(stored):
            log.info("version %s is champion already, by this very decision", winner.version)
            return stored
        _require_no_rollback(client, champion)
        _require_compared(decided, winner, champion)
        facts = {"decision": decided, "decision_sha256": digest, "from": decided["champion"]}
        record = stored or _store(client, "promotion", winner, by, digest, facts)
        loser = numbered(client, decided["champion"]["version"]) if decided["champion"] else None
        _crown(client, winner, loser, commercial=decided["commercial"]["allowed"])
        set_tag(client, winner, RECORD, _digest(record))
        _retire_challenger(client, winner)
    log.info("version %s is champion", winner.version)
    return record


def _read(decision: Path) -> bytes:
    try:
        return decision.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{decision} does not exist: run `earmark gate` first") from None


def _require_pass(decided: Mapping[str, Any], path: Path) -> None:
    failed = [str(Finding(**rule)) for rule in decided["rules"] if not rule["passed"]]
    if failed or decided["verdict"] != "pass":
        raise InputError(f"{path} refuses the challenger: {'; '.join(failed) or decided['verdict']}")


def _judged(client: "MlflowClient", judged: Mapping[str, Any]) -> "ModelVersion":
    """The version that the decision is of. Errors: InputError when it is gone, or was evaluated again since."""
    version = numbered(client, judged["version"])
    if version is None:
        raise InputError(f"{NAME} has no version {judged['version']}, of which the decision is: {AGAIN}")
    if (version.tags.get(BUNDLE), version.tags.get(EVALUATION)) != (judged["bundle"], judged["evaluation"]):
        raise InputError(f"version {version.version} has another model or evaluation than the decision judged: {AGAIN}")
    return version


def _require_compared(decided: Mapping[str, Any], winner: "ModelVersion", champion: "ModelVersion | None") -> None:
    """The champion is the one that the decision compared with, or the winner, whose promotion was cut short."""
    compared = decided["champion"]
    if champion is not None and champion.version == winner.version:
        return
    if (champion and int(champion.version)) != (compared and compared["version"]):
        now, then = champion.version if champion else "none", compared["version"] if compared else "none"
        raise InputError(f"the champion is version {now}, the decision compared with version {then}: {AGAIN}")


def _require_no_rollback(client: "MlflowClient", champion: "ModelVersion | None") -> None:
    if any(one and one.tags.get(UNDER_WAY) for one in (champion, at(client, PREVIOUS))):
        raise InputError("a rollback was cut short: run `earmark rollback` to complete it, then promote")


def _stored(client: "MlflowClient", version: "ModelVersion", digest: str) -> dict[str, Any] | None:
    """The record of the version's promotion by the decision of this digest; None where there is none."""
    place, run = f"records/{_file_name('promotion', digest)}", str(version.run_id)
    if place not in [file.path for file in client.list_artifacts(run, "records")]:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return json.loads(Path(client.download_artifacts(run, place, folder)).read_text())


def _file_name(action: str, place: str) -> str:
    return f"{action}-{place[:16]}.json"


def _store(
    client: "MlflowClient", action: str, version: "ModelVersion", by: str | None, place: str, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the record to the run of the version that becomes champion; a repeated action overwrites its own, at `place`."""
    to, when = {"version": int(version.version), "bundle": version.tags[BUNDLE]}, datetime.now(UTC).isoformat()
    record = {"schema": SCHEMA, "action": action, "to": to, "who": by or who(), "when": when, **facts}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _file_name(action, place)
        path.write_bytes(_bytes(record))
        client.log_artifact(str(version.run_id), str(path), "records")
    return record


def _bytes(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=2, sort_keys=True) + "\n").encode()


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(_bytes(record)).hexdigest()


def _crown(client: "MlflowClient", winner: "ModelVersion", loser: "ModelVersion | None", *, commercial: bool) -> None:
    """Move champion, previous and commercial. Errors: InputError when another than winner or loser is champion, before or after it."""
    set_tag(client, winner, ALLOWED, "yes" if commercial else "no")
    _require_champion(client, winner, loser)
    set_alias(client, CHAMPION, winner)
    _require_champion(client, winner)
    if loser is not None:
        set_alias(client, PREVIOUS, loser)
    if commercial:
        set_alias(client, COMMERCIAL, winner)
    else:
        log.warning("version %s does not get the alias %s: the licences of its corpora bar it", winner.version, COMMERCIAL)


def _require_champion(client: "MlflowClient", winner: "ModelVersion", *others: "ModelVersion | None") -> None:
    """The champion is one of these; None stands for no champion."""
    found = at(client, CHAMPION)
    if (found and found.version) not in [one and one.version for one in (winner, *others)]:
        now = f"version {found.version}" if found else "none"
        raise InputError(f"the champion is {now} and was moved while version {winner.version} was to become it: {AGAIN}")


def _retire_challenger(client: "MlflowClient", winner: "ModelVersion") -> None:
    """Take the alias from a version that is champion now; whoever may not delete an alias leaves it, since nothing reads it."""
    from mlflow.exceptions import MlflowException

    challenger = at(client, CHALLENGER)
    if challenger is None or challenger.version != winner.version:
        return
    try:
        set_alias(client, CHALLENGER, None)
    except MlflowException as error:
        log.info("version %s keeps the alias %s: %s", winner.version, CHALLENGER, error)


def rollback(tracking: TrackingParams, by: str | None = None, reason: str = "") -> dict[str, Any]:
    """Swap champion and previous, or complete a swap that was cut short, and return the record.

    Errors: InputError when there is no previous champion, or another champion was made meanwhile.
    """
    with connected(tracking) as store:
        client = store.client
        champion, previous, place = _begin_rollback(client)
        named = {"version": int(champion.version), "bundle": champion.tags[BUNDLE]}
        record = _store(client, "rollback", previous, by, place, {"from": named, "reason": reason})
        allowed = previous.tags.get(ALLOWED) == "yes"
        if not allowed:
            _withdraw_commercial(client, champion)
        _crown(client, previous, champion, commercial=allowed)
        set_tag(client, previous, RECORD, _digest(record))
        set_tag(client, previous, UNDER_WAY, "")
    log.info("version %s is champion again", previous.version)
    return record


def _begin_rollback(client: "MlflowClient") -> tuple["ModelVersion", "ModelVersion", str]:
    """Who is left, who comes back, and the record's place; noted with the latter until both have their aliases."""
    champion, previous = at(client, CHAMPION), at(client, PREVIOUS)
    for one in (previous, champion):
        if one is not None and one.tags.get(UNDER_WAY):
            note = json.loads(one.tags[UNDER_WAY])
            return client.get_model_version(NAME, note["from"]), one, note["place"]
    if champion is None or previous is None or champion.version == previous.version:
        raise InputError(f"{NAME} has no previous champion to go back to")
    note = {"from": str(champion.version), "place": uuid.uuid4().hex}
    set_tag(client, previous, UNDER_WAY, json.dumps(note))
    return champion, previous, note["place"]


def _withdraw_commercial(client: "MlflowClient", champion: "ModelVersion") -> None:
    """What was found bad is not sold on: without a permitted version to go back to, nobody has the alias."""
    holder = at(client, COMMERCIAL)
    if holder is not None and holder.version == champion.version:
        set_alias(client, COMMERCIAL, None)
