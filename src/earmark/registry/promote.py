"""Promotion and rollback: aliases move in an order that a repeated call completes, and each move leaves a record.

A promotion goes by the version number of the gate's decision. MLflow has no compare-and-swap, so the champion is read right before its
alias is set, and again after it: of two promotions at once the later one stands, and whoever finds another champion is refused.
A version's tag `record` names the record that made it champion, an artifact of the version's run.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.artifacts import load_dict
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from earmark import InputError
from earmark.params import TrackingParams
from earmark.registry.rules import Finding
from earmark.registry.server import connected, who
from earmark.registry.versions import (
    BUNDLE,
    CHALLENGER,
    CHAMPION,
    COMMERCIAL,
    EVALUATION,
    NAME,
    PREVIOUS,
    SCHEMA,
    at,
    numbered,
    set_alias,
    set_tag,
)

log = logging.getLogger(__name__)
RECORD, ALLOWED = "record", "commercial_use"
UNDER_WAY = "rollback"  # tag of a version that comes back, with the record; empty afterwards: not all who may set a tag may delete it
AGAIN = "run the stages register and gate again (`dvc repro --force --single-item register gate`)"


def promote(tracking: TrackingParams, decision: Path, by: str | None = None) -> dict[str, Any]:
    """Make the version of the decision champion, and return the record. A decision that made the champion already changes nothing.

    Errors: InputError when a rule failed (which, by how much), when version or champion are no longer those of the decision, or when
    another champion was made meanwhile.
    """
    decided, digest = _read(decision)
    compared, place = decided["champion"], f"records/promotion-{digest[:16]}.json"
    loser = str(compared["version"]) if compared else None
    with connected(tracking) as store:
        client = store.client
        winner, champion = _judged(client, decided["challenger"]), at(client, CHAMPION)
        record = _stored(client, winner, place)
        if record and _number(champion) == _number(winner) and winner.tags.get(RECORD) == place:
            log.info("version %s is champion already, by this very decision", winner.version)
            return record
        if _under_way(at(client, PREVIOUS), champion):
            raise InputError("a rollback was cut short: run `earmark rollback` to complete it, then promote")
        _require_champion(champion, winner, loser, f", the decision compared with version {loser or 'none'}")
        facts = {"decision": decided, "decision_sha256": digest, "from": compared}
        record = record or _record("promotion", winner, by, facts)
        _crown(client, winner, loser, record, place, commercial=decided["commercial"]["allowed"])
        _retire_challenger(client, winner)
    log.info("version %s is champion", winner.version)
    return record


def _read(decision: Path) -> tuple[dict[str, Any], str]:
    """The gate's decision and its SHA-256. Errors: InputError when there is none, or it refuses the challenger."""
    try:
        content = decision.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{decision} does not exist: run `earmark gate` first") from None
    decided = json.loads(content)
    failed = [str(Finding(**rule)) for rule in decided["rules"] if not rule["passed"]]
    if failed:
        raise InputError(f"{decision} refuses the challenger: {'; '.join(failed)}")
    return decided, hashlib.sha256(content).hexdigest()


def _judged(client: MlflowClient, judged: Mapping[str, Any]) -> ModelVersion:
    """The version that the decision is of. Errors: InputError when it is gone, or was evaluated again since."""
    version = numbered(client, judged["version"])
    if version is None:
        raise InputError(f"{NAME} has no version {judged['version']}, of which the decision is: {AGAIN}")
    if (version.tags.get(BUNDLE), version.tags.get(EVALUATION)) != (judged["bundle"], judged["evaluation"]):
        raise InputError(f"version {version.version} has another model or evaluation than the decision judged: {AGAIN}")
    return version


def _number(version: ModelVersion | None) -> str | None:
    return str(version.version) if version else None


def _require_champion(champion: ModelVersion | None, winner: ModelVersion, loser: str | None, otherwise: str) -> None:
    """Errors: InputError when the champion is neither the winner, of a move that was cut short, nor the loser (None: no champion)."""
    if _number(champion) not in (_number(winner), loser):
        raise InputError(f"the champion is version {_number(champion) or 'none'}{otherwise}: {AGAIN}")


def _record(action: str, to: ModelVersion, by: str | None, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {"schema": SCHEMA, "action": action, "to": _named(to), "who": by or who(), "when": datetime.now(UTC).isoformat(), **facts}


def _named(version: ModelVersion) -> dict[str, Any]:
    return {"version": int(version.version), "bundle": version.tags[BUNDLE]}


def _stored(client: MlflowClient, version: ModelVersion, place: str) -> dict[str, Any] | None:
    """The record at this place of the version's run; None where there is none."""
    if place not in [file.path for file in client.list_artifacts(str(version.run_id), "records")]:
        return None
    return load_dict(f"runs:/{version.run_id}/{place}")


def _crown(
    client: MlflowClient, winner: ModelVersion, loser: str | None, record: Mapping[str, Any], place: str, *, commercial: bool
) -> None:
    """Store the record, then move champion, previous and commercial.

    Errors: InputError when another than winner or loser is champion before it, or another than the winner after it.
    """
    moved = f" and was moved while version {winner.version} was to become it"
    client.log_text(str(winner.run_id), json.dumps(record, indent=2, sort_keys=True) + "\n", place)
    set_tag(client, winner, ALLOWED, "yes" if commercial else "no")
    _require_champion(at(client, CHAMPION), winner, loser, moved)
    set_alias(client, CHAMPION, winner.version)
    _require_champion(at(client, CHAMPION), winner, str(winner.version), moved)
    if loser is not None:
        set_alias(client, PREVIOUS, loser)
    if commercial:
        set_alias(client, COMMERCIAL, winner.version)
    else:
        log.warning("version %s does not get the alias %s: the licences of its corpora bar it", winner.version, COMMERCIAL)
    set_tag(client, winner, RECORD, place)


def _retire_challenger(client: MlflowClient, winner: ModelVersion) -> None:
    """Take the alias from a version that is champion now; whoever may not delete an alias leaves it, since nothing reads it."""
    if _number(at(client, CHALLENGER)) == _number(winner):
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
        champion, previous = at(client, CHAMPION), at(client, PREVIOUS)
        if (found := _under_way(previous, champion)) is None:
            if champion is None or previous is None or champion.version == previous.version:
                raise InputError(f"{NAME} has no previous champion to go back to")
            found = previous, _record("rollback", previous, by, {"from": _named(champion), "reason": reason})
            set_tag(client, previous, UNDER_WAY, json.dumps(found[1]))
        back, record = found
        left, allowed = str(record["from"]["version"]), back.tags.get(ALLOWED) == "yes"
        if not allowed and _number(at(client, COMMERCIAL)) == left:  # what was found bad is not sold on, even if nobody has the alias then
            set_alias(client, COMMERCIAL, None)
        place = f"records/rollback-{hashlib.sha256(json.dumps(record).encode()).hexdigest()[:16]}.json"
        _crown(client, back, left, record, place, commercial=allowed)
        set_tag(client, back, UNDER_WAY, "")
    log.info("version %s is champion again", back.version)
    return record


def _under_way(*versions: ModelVersion | None) -> tuple[ModelVersion, dict[str, Any]] | None:
    """The one of these versions that a rollback was to bring back, and its record; None where no rollback was cut short."""
    found = [version for version in versions if version and version.tags.get(UNDER_WAY)]
    return (found[0], json.loads(found[0].tags[UNDER_WAY])) if found else None
