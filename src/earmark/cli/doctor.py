"""The command `earmark doctor CORPUS`, and the table that both it and the stage print."""

import json
from pathlib import Path

from rich.console import Console

from earmark import InputError
from earmark import params as settings
from earmark.doctor.diagnose import diagnose, read_folder, write_report
from earmark.doctor.table import show
from earmark.params import Params


def check_folder(corpus: Path, params_file: Path | None, out: Path | None, as_json: bool) -> bool:
    """Diagnose a folder corpus, print the table or JSON, write the report if asked; return whether no check failed."""
    params = settings.load(params_file) if params_file else Params()
    if out and out.exists() and not (out / "report.json").exists():
        raise InputError(f"{out} holds something else than a report: name a new folder for --out")
    diagnosis = diagnose(read_folder(corpus, params.trials), params.doctor, params.trials, params.decoding)
    if out:
        write_report(diagnosis, out)
    if as_json:
        print(json.dumps(diagnosis.to_json(), indent=2, allow_nan=False))
    else:
        show(diagnosis.findings, diagnosis.title, Console())
        if not out:
            print("--out FOLDER writes the report: every file, with what was found in it, as a page, JSON and CSVs")
    return not diagnosis.failed
