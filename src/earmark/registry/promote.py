"""Promotion and rollback: aliases move under a lock, in an order that a repeated call completes, and each move leaves a record.

A version's tag `record` holds the SHA-256 of the record that made it champion; the record is an artifact of the version's run.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earmark import InputError
from earmark.params import TrackingParams
from earmark.registry.bundle import SCHEMA
from earmark.registry.lock import Lock, lock
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
    names_of,
    set_alias,
    versions_of,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

log = logging.getLogger(__name__)
LOCK, RECORD, ALLOWED = "promotion", "record", "commercial_use"
UNDER_WAY = "rollback"  # a version's tag while it comes back
AGAIN = "run the stages register and gate again (`dvc repro --force --single-item register gate`)"


def promote(tracking: TrackingParams, decision: Path, by: str | None = None) -> dict[str, Any]:
    """Make the challenger champion as the decision says, and return the record.

    A decision that made the champion already changes nothing.

    Errors: InputError when a rule failed (which, by how much), when challenger or champion are no longer those of the decision, or when
    another promotion was quicker.
    """
    content = _read(decision)
    decided = json.loads(content)
    _require_pass(decided, decision)
    with connected(tracking) as store, lock(store.client, LOCK) as held:
        challenger, champion = at(store.client, NAME, CHALLENGER), at(store.client, NAME, CHAMPION)
        digest = hashlib.sha256(content).hexdigest()
        if challenger is None and champion is not None and (stored := _stored(store.client, champion, digest)):
            log.info("version %s is champion already, by this very decision", champion.version)
            return stored
        if any(one and UNDER_WAY in one.tags for one in (champion, at(store.client, NAME, PREVIOUS))):
            raise InputError("a rollback was cut short: run `earmark rollback` to complete it, then promote")
        _require_same(decided, challenger, champion)
        assert challenger is not None
        held.check()
        facts = {"decision": decided, "decision_sha256": digest, "from": decided["champion"]}
        record = _store(store.client, "promotion", challenger, by, digest, facts)
        _crown(store.client, held, challenger, decided["champion"], commercial=decided["commercial"]["allowed"])
        store.client.set_model_version_tag(NAME, challenger.version, RECORD, _digest(record))
        for name in names_of(store.client, challenger.tags[BUNDLE]):
            set_alias(store.client, name, CHALLENGER, None)
    log.info("version %s is champion", challenger.version)
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


def _require_same(decided: Mapping[str, Any], challenger: "ModelVersion | None", champion: "ModelVersion | None") -> None:
    """Both models are still those that the decision is of; a promotion that was cut short may be completed."""
    judged, compared = decided["challenger"], decided["champion"]
    if challenger is None:
        raise InputError(f"no version of {NAME} is challenger, version {judged['version']} may have been promoted: {AGAIN}")
    if (challenger.tags[BUNDLE], challenger.tags[EVALUATION]) != (judged["bundle"], judged["evaluation"]):
        raise InputError(f"the challenger is version {challenger.version}, the decision is of version {judged['version']}: {AGAIN}")
    if champion is not None and champion.version == challenger.version:
        return
    if (champion and champion.tags[BUNDLE]) != (compared and compared["bundle"]):
        now, then = champion.version if champion else "none", compared["version"] if compared else "none"
        raise InputError(f"the champion is version {now}, the decision compared with version {then}: {AGAIN}")


def _stored(client: "MlflowClient", champion: "ModelVersion", digest: str) -> dict[str, Any] | None:
    """The record of the champion's promotion by the decision of this digest; None where it was another's."""
    place, run = f"records/{_file_name('promotion', digest)}", str(champion.run_id)
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


def _crown(client: "MlflowClient", held: Lock, winner: "ModelVersion", loser: Mapping[str, Any] | None, *, commercial: bool) -> None:
    """Move champion, previous and commercial of the model and its parts."""
    client.set_model_version_tag(NAME, winner.version, ALLOWED, "yes" if commercial else "no")
    for name in names_of(client, winner.tags[BUNDLE]):
        new = versions_of(client, name, winner.tags[BUNDLE])[0]
        old = versions_of(client, name, loser["bundle"]) if loser else []
        held.check()
        set_alias(client, name, CHAMPION, new)
        if old:
            set_alias(client, name, PREVIOUS, old[0])
        if commercial:
            set_alias(client, name, COMMERCIAL, new)
    if not commercial:
        log.warning("version %s does not get the alias %s: the licences of its corpora bar it", winner.version, COMMERCIAL)


def rollback(tracking: TrackingParams, by: str | None = None, reason: str = "") -> dict[str, Any]:
    """Swap champion and previous, or complete a swap that was cut short, and return the record.

    Errors: InputError when there is no previous champion.
    """
    with connected(tracking) as store, lock(store.client, LOCK) as held:
        champion, previous, place = _begin_rollback(store.client, held)
        named = {"version": int(champion.version), "bundle": champion.tags[BUNDLE]}
        record = _store(store.client, "rollback", previous, by, place, {"from": named, "reason": reason})
        _withdraw_commercial(store.client, held, champion, previous)
        _crown(store.client, held, previous, named, commercial=previous.tags.get(ALLOWED) == "yes")
        store.client.set_model_version_tag(NAME, previous.version, RECORD, _digest(record))
        store.client.delete_model_version_tag(NAME, previous.version, UNDER_WAY)
    log.info("version %s is champion again", previous.version)
    return record


def _begin_rollback(client: "MlflowClient", held: Lock) -> tuple["ModelVersion", "ModelVersion", str]:
    """Who is left, who comes back, and the record's place; noted with the latter until both have their aliases."""
    champion, previous = at(client, NAME, CHAMPION), at(client, NAME, PREVIOUS)
    for one in (previous, champion):
        if one is not None and UNDER_WAY in one.tags:
            note = json.loads(one.tags[UNDER_WAY])
            return client.get_model_version(NAME, note["from"]), one, note["place"]
    if champion is None or previous is None or champion.version == previous.version:
        raise InputError(f"{NAME} has no previous champion to go back to")
    held.check()
    note = {"from": str(champion.version), "place": held.token}
    client.set_model_version_tag(NAME, previous.version, UNDER_WAY, json.dumps(note))
    return champion, previous, held.token


def _withdraw_commercial(client: "MlflowClient", held: Lock, champion: "ModelVersion", previous: "ModelVersion") -> None:
    """What was found bad is not sold on: without a permitted version to go back to, nobody has the alias."""
    if previous.tags.get(ALLOWED) == "yes":
        return
    for name in names_of(client, champion.tags[BUNDLE]):
        holder = at(client, name, COMMERCIAL)
        if holder is not None and holder.tags[BUNDLE] == champion.tags[BUNDLE]:
            held.check()
            set_alias(client, name, COMMERCIAL, None)
