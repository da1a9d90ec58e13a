"""The corpus doctor: one pass over the audio, all checks, one report; what the stage and the command `earmark doctor` share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from earmark import InputError
from earmark.corpora.checks import refuse_wrong_labels
from earmark.corpora.prepare import read_served
from earmark.corpora.protocol import KEYS, SPLITS
from earmark.doctor.bounds import BOUNDS
from earmark.doctor.checks import check_duplicates, check_files, check_labels, check_leaks, check_near_duplicates
from earmark.doctor.cues import COLUMNS, check_cues
from earmark.doctor.examine import Examination, examine_all
from earmark.doctor.findings import Finding, records
from earmark.doctor.page import render
from earmark.doctor.table import NAMED, show
from earmark.doctor.twins import Twins, find_twins
from earmark.params import CorpusParams, DecodingParams, DoctorParams, TrialsParams
from earmark.storage.files import complete, read_table, remove, write_json, write_table

SCHEMA = 1  # of report.json; raised when a reader has to change
ORDER = (
    "unreadable", "silent", "clipped", "label_conflicts", "duplicates", "near_duplicates",
    "speaker_leak", "group_leak", "file_leak", "near_duplicate_leak", "cheap_cues",
)  # fmt: skip


@dataclass(frozen=True)
class Diagnosis:
    """Findings in `ORDER`, cues with their AUC, and the protocol beside what was found in each file."""

    findings: list[Finding]
    cues: pd.DataFrame
    table: pd.DataFrame
    settings: DoctorParams

    @property
    def failed(self) -> list[Finding]:
        """Checks of severity error that found something."""
        return [finding for finding in self.findings if finding.status == "fail"]

    @property
    def status(self) -> str:
        """The gravest status of all checks."""
        found = {finding.status for finding in self.findings}
        return next((status for status in ("fail", "warn") if status in found), "pass")

    @property
    def title(self) -> str:
        """How many utterances were examined, and the gravest status."""
        return f"{len(self.table)} utterances: {self.status}"

    def to_json(self) -> dict[str, Any]:
        """Report for programs."""
        counts = self.table.groupby(["corpus", "split", "key"]).size().unstack(fill_value=0).reindex(columns=list(KEYS), fill_value=0)
        ordered = counts.reset_index().sort_values("split", key=lambda split: split.map(SPLITS.index), kind="stable")
        return {
            "schema": SCHEMA,
            "status": self.status,
            "utterances": len(self.table),
            "seconds": round(float(self.table["duration"].sum()), 3),
            "trials": records(ordered.rename_axis(columns=None).sort_values("corpus", kind="stable")),
            "checks": [finding.to_json() for finding in self.findings],
            "cues": records(self.cues),
            "settings": self.settings.model_dump(mode="json") | BOUNDS._asdict(),
        }


def diagnose(protocol: pd.DataFrame, settings: DoctorParams, trials: TrialsParams, decoding: DecodingParams) -> Diagnosis:
    """Examine all files of a protocol and run the checks that are not off."""
    protocol = protocol.drop(columns=[name for name in Examination.__dataclass_fields__ if name in protocol]).reset_index(drop=True)
    table = pd.concat([protocol, examine_all(protocol["path"].tolist(), BOUNDS.silence_db, decoding)], axis=1)
    asked = {check for check in ORDER if getattr(settings, check) != "off"}
    twins = find_twins(table, decoding) if asked & {"label_conflicts", "near_duplicates", "near_duplicate_leak"} else Twins()
    cues = pd.DataFrame(columns=list(COLUMNS))
    found = [
        *check_files(table, settings, trials.max_unreadable),
        check_labels(table, twins, settings),
        *check_duplicates(table, settings),
        *check_near_duplicates(table, twins, settings),
        *check_leaks(table, settings),
    ]
    if "cheap_cues" in asked:
        finding, cues = check_cues(table, settings, trials.seed)
        found.append(finding)
    by_name = {finding.check: finding for finding in found}
    return Diagnosis([by_name[check] if check in asked else Finding(check, "off", "off") for check in ORDER], cues, table, settings)


def read_folder(root: Path, trials: TrialsParams) -> pd.DataFrame:
    """Trials of a folder corpus, split as a run would split it; files that are missing and ids that repeat are left for the checks.

    Errors: InputError when `root` is no corpus, or has unknown keys or splits.
    """
    shares = {"train": 1 - trials.dev_fraction - trials.eval_fraction, "dev": trials.dev_fraction, "eval": trials.eval_fraction}
    table = read_served(CorpusParams(root=str(root), splits=SPLITS), shares, trials.seed)
    refuse_wrong_labels(table)
    return table


def write_report(diagnosis: Diagnosis, folder: Path) -> None:
    """Write report.json, report.html, utterances.parquet, cues.csv and a CSV for each check that found something."""
    content = diagnosis.to_json()
    with complete(folder) as aside:
        aside.mkdir()
        write_json(aside / "report.json", content)
        (aside / "report.html").write_text(render(content))
        write_table(aside / "utterances.parquet", diagnosis.table)
        diagnosis.cues.to_csv(aside / "cues.csv", index=False)
        for finding in diagnosis.findings:
            if len(finding.culprits):
                finding.culprits.to_csv(aside / f"{finding.check}.csv", index=False)


def diagnose_run(doctor: DoctorParams, trials: TrialsParams, decoding: DecodingParams, *, protocol: Path, output: Path) -> dict[str, float]:
    """Diagnose the corpora of a run and write the report to `output`, or, when a check fails, beside it, so that no later stage starts.

    Return how much each check found. Errors: InputError naming the failed checks, their first culprits and the report.
    """
    diagnosis = diagnose(read_table(protocol), doctor, trials, decoding)
    beside = output.with_name(f"{output.name}.failed")
    if diagnosis.failed:
        remove(output)
        write_report(diagnosis, beside)
        raise InputError(explain(diagnosis, beside / "report.html"))
    write_report(diagnosis, output)
    remove(beside)
    show(diagnosis.findings, diagnosis.title, Console(stderr=True))
    return {finding.check: finding.count for finding in diagnosis.findings if finding.status != "off"}


def explain(diagnosis: Diagnosis, report: Path) -> str:
    """What failed, a line a check, and what to do."""
    failed = diagnosis.failed
    lines = [f"  {finding.check}: {finding.found}: {finding.summary}: {finding.first(NAMED)}" for finding in failed]
    plural = "checks" if len(failed) > 1 else "check"
    mend = f"read {report}, mend the corpora, or set doctor.{failed[0].check} to warn in params"
    return "\n".join([f"the corpora fail {len(failed)} {plural}:", *lines, mend])
