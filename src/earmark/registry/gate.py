"""The gate: tables of challenger and champion in, a decision record out. Pure: no server, and the same bytes for the same inputs."""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from earmark import InputError
from earmark.corpora.text import require_columns
from earmark.model.manifest import MANIFEST, read_manifest
from earmark.params import GateParams
from earmark.registry import rules
from earmark.registry.rules import Finding
from earmark.registry.versions import REGISTRATION, ROBUSTNESS, SCHEMA, TRIALS, learned_from
from earmark.storage.files import complete, file_digest, read_table, write_json

log = logging.getLogger(__name__)
DECISION = "decision.json"
COLUMNS = ("utterance_id", "digest", "corpus", "key", "speaker", "source", "llr")


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
    manifest, registered = read_manifest(model), json.loads(places["registration"].read_text())
    if registered["registered"]:
        _require_same(registered["bundle"], manifest["digest"], places["manifest"])
        _require_same(registered["evaluation"], file_digest(places["challenger"]), places["challenger"])
    challenger, note = _trials(places["challenger"]), "the model is in no registry: set tracking.enabled=true and register it"
    findings = [
        Finding("registered", "", "", registered["registered"], note="" if registered["registered"] else note),
        Finding("self-test", "", "", manifest["self_test"]["passed"]),
        *rules.absolute(challenger, gate, first=not registered["champion"]),
        *rules.robustness(read_table(places["robustness"]), gate),
    ]
    if champion := registered["champion"]:
        another = champion["bundle"] != manifest["digest"]
        findings.append(Finding("another model", "", "", another, note="" if another else "this model is the champion"))
        findings += _against(challenger, _trials(places["champion"]), gate, seed)
    record = _record(manifest, registered, findings, gate)
    record["settings"] = {"seed": seed, **gate.model_dump(mode="json")}
    record["inputs"] = {name: file_digest(path) for name, path in places.items() if path.exists()}
    with complete(output) as aside:
        aside.mkdir()
        write_json(aside / DECISION, record)
        pd.DataFrame([asdict(finding) for finding in findings]).to_csv(aside / "rules.csv", index=False)
    failed = [finding for finding in findings if not finding.passed]
    for finding in failed:
        log.warning("%s", finding)
    commercial = float(record["commercial"]["allowed"])
    return {"passed": float(not failed), "rules": len(findings), "failed": len(failed), "commercial": commercial}


def _require_same(registered: str, found: str, path: Path) -> None:
    if registered != found:
        raise InputError(f"{path} is not the one that was registered: run `earmark register` again")


def _trials(path: Path) -> pd.DataFrame:
    table = read_table(path)
    require_columns(table, COLUMNS, path)
    return table


def _against(challenger: pd.DataFrame, champion: pd.DataFrame, gate: GateParams, seed: int) -> Iterator[Finding]:
    """Rules that compare, asked only of models that were evaluated on the same trials."""
    same = rules.same_trials(challenger, champion)
    yield same
    if same.passed:
        old = rules.align(champion, challenger)
        yield rules.same_tracing(challenger, old)
        compared = rules.compare(challenger, old, gate, seed)
        yield from rules.win(compared, gate)
        yield from rules.hold(compared, gate)
        yield from rules.slices(challenger, old, gate)


def _record(manifest: dict[str, Any], registered: dict[str, Any], findings: list[Finding], gate: GateParams) -> dict[str, Any]:
    passed = all(finding.passed for finding in findings)
    barred = [corpus for corpus in learned_from(manifest) if corpus["licence"] not in gate.commercial_licences]
    barred_by = [{"corpus": corpus["name"], "licence": corpus["licence"] or "unknown"} for corpus in barred]
    return {
        "schema": SCHEMA,
        "verdict": "pass" if passed else "refuse",
        "challenger": {key: registered.get(key) for key in ("version", "bundle", "evaluation")},
        "champion": registered["champion"],
        "rules": [asdict(finding) for finding in findings],
        "commercial": {"allowed": passed and not barred, "barred_by": barred_by},
    }
