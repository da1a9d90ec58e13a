"""The gate: tables of challenger and champion in, a decision record out. Pure: no server, and the same bytes for the same inputs."""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from earmark import InputError
from earmark.corpora.text import require_columns
from earmark.model.manifest import MANIFEST
from earmark.params import GateParams
from earmark.registry import bundle, rules
from earmark.registry.bundle import REGISTRATION, ROBUSTNESS, SCHEMA, TRIALS, Bundle
from earmark.registry.rules import Finding
from earmark.storage.files import complete, file_digest, read_table, write_json

log = logging.getLogger(__name__)
DECISION = "decision.json"
COLUMNS = ("utterance_id", "digest", "corpus", "key", "speaker", "source", "llr")


@dataclass(frozen=True)
class Candidates:
    """What the gate judges; `champion` is None for a first promotion."""

    model: Bundle
    registration: dict[str, Any]
    challenger: pd.DataFrame
    champion: pd.DataFrame | None
    robustness: pd.DataFrame


def gate(
    seed: int, gate: GateParams, *, model: Path, evaluation: Path, registration: Path, robustness: Path, output: Path
) -> dict[str, float]:
    """Judge the challenger; write decision.json and rules.csv into `output`. A refusal is a result, not an error.

    Errors: InputError when the inputs are of different models, or a table lacks a column.
    """
    places = {
        "manifest": model / MANIFEST,
        "registration": registration / REGISTRATION,
        "challenger": evaluation / TRIALS,
        "champion": registration / "champion" / TRIALS,
        "robustness": robustness / ROBUSTNESS,
    }
    candidates = _read(model, places)
    findings = list(judge(candidates, gate, seed))
    inputs = {name: file_digest(path) for name, path in places.items() if path.exists()}
    record = _record(candidates, findings, gate, seed) | {"inputs": inputs}
    with complete(output) as aside:
        aside.mkdir()
        write_json(aside / DECISION, record)
        pd.DataFrame([asdict(finding) for finding in findings]).to_csv(aside / "rules.csv", index=False)
    failed = [finding for finding in findings if not finding.passed]
    for finding in failed:
        log.warning("%s", finding)
    return {
        "passed": float(not failed),
        "rules": len(findings),
        "failed": len(failed),
        "commercial": float(record["commercial"]["allowed"]),
    }


def _read(model: Path, places: dict[str, Path]) -> Candidates:
    packaged, registered = bundle.read(model), json.loads(places["registration"].read_text())
    if registered["registered"]:
        _require_same(registered["bundle"], packaged.digest, places["manifest"])
        _require_same(registered["evaluation"], file_digest(places["challenger"]), places["challenger"])
    champion = _trials(places["champion"]) if registered.get("champion") else None
    degraded = read_table(places["robustness"])
    require_columns(
        degraded, ("corpus", "degradation", "level", "trials_bonafide", "trials_spoof", "eer", "eer_low", "eer_high"), places["robustness"]
    )
    return Candidates(packaged, registered, _trials(places["challenger"]), champion, degraded)


def _require_same(registered: str, found: str, path: Path) -> None:
    if registered != found:
        raise InputError(f"{path} is not the one that was registered: run `earmark register` again")


def _trials(path: Path) -> pd.DataFrame:
    table = read_table(path)
    require_columns(table, COLUMNS, path)
    return table


def judge(candidates: Candidates, gate: GateParams, seed: int) -> Iterator[Finding]:
    """All rules; those that compare are asked only of models that were evaluated on the same trials."""
    note = "" if candidates.registration["registered"] else "the model is in no registry: set tracking.enabled=true and register it"
    yield Finding("registered", "", "", not note, note=note)
    yield Finding("self-test", "", "", candidates.model.manifest["self_test"].get("passed") is True)
    yield from rules.calibration(candidates.challenger, gate)
    yield from rules.robustness(candidates.robustness, gate)
    if candidates.champion is None:
        yield from rules.first_bounds(candidates.challenger, gate)
    else:
        yield from _against(candidates, candidates.champion, gate, seed)


def _against(candidates: Candidates, champion: pd.DataFrame, gate: GateParams, seed: int) -> Iterator[Finding]:
    other = candidates.registration["champion"]["bundle"] != candidates.model.digest
    yield Finding("another model", "", "", other, note="" if other else "this model is the champion")
    same = rules.same_trials(candidates.challenger, champion)
    yield same
    if same.passed:
        yield rules.same_tracing(candidates.challenger, champion)
        compared = rules.compare(candidates.challenger, champion, gate, seed)
        yield from rules.win(compared, gate)
        yield from rules.hold(compared, gate)
        yield from rules.slices(candidates.challenger, champion, gate)


def _record(candidates: Candidates, findings: list[Finding], gate: GateParams, seed: int) -> dict[str, Any]:
    registered, passed = candidates.registration, all(finding.passed for finding in findings)
    barred = [
        {"corpus": corpus["name"], "licence": corpus.get("licence") or "unknown"}
        for corpus in candidates.model.lineage
        if corpus.get("licence") not in gate.commercial_licences
    ]
    return {
        "schema": SCHEMA,
        "verdict": "pass" if passed else "refuse",
        "challenger": {key: registered.get(key) for key in ("version", "bundle", "evaluation")},
        "champion": registered.get("champion"),
        "rules": [asdict(finding) for finding in findings],
        "commercial": {"allowed": passed and not barred, "barred_by": barred},
        "settings": {"seed": seed, **gate.model_dump(mode="json")},
    }
