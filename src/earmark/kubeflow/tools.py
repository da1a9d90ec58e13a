"""Steps of a cluster's pipeline that are no stages: unite, show, promote, fetch a model, join verdicts, say how a run ended."""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from earmark.kubeflow.pointer import Pointer
from earmark.kubeflow.step import plain, tracking_of
from earmark.kubeflow.store import load, open_store, save
from earmark.storage.files import complete, write_json

log = logging.getLogger(__name__)


def unite(parts: list[Any], output: Any) -> None:
    """One pointer to the files of all parts. Errors: as `Pointer.union`."""
    with plain("gather"):
        whole = Pointer.union(Pointer.read(Path(part.path)) for part in parts)
    write_json(Path(output.path), whole.content)
    output.metadata |= {"digest": whole.digest, "store": whole.store}


def fetch(output: Any, file: str, target: str) -> None:
    """One file of what a step put into its output artifact."""
    pointer = Pointer.read(Path(output.path))
    (found,) = [one for one in pointer.files if one.path == file]
    with tempfile.TemporaryDirectory() as scratch:
        load(Pointer(pointer.store, (found,)), Path(scratch) / "part", open_store(pointer.store))
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(scratch) / "part" / file, target)


def log_curve(output: Any, curve: Any) -> None:
    """The first corpus's receiver operating characteristic into a ClassificationMetrics artifact; bona fide is the positive class."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "det.csv"
        fetch(output, place.name, str(place))
        table = pd.read_csv(place)
    own = table[table["corpus"] == table["corpus"].iloc[0]].iloc[::-1]
    curve.log_roc_curve(own["false_alarm"].tolist(), (1 - own["miss"]).tolist(), own["threshold"].tolist())


def run_promotion(arguments: dict[str, Any]) -> None:
    """Promote as the gate's decision, an artifact, says."""
    from earmark.registry.promote import promote

    with plain("promote"), tempfile.TemporaryDirectory() as scratch:
        decision = Path(scratch) / "decision.json"
        fetch(arguments["decision"], decision.name, str(decision))
        promote(tracking_of(arguments["tracking"]), decision)


def run_report(state: str, error: str, store: str, run: str, tracking: str) -> None:
    """Say how a pipeline run ended and where its results are."""
    with plain("report"):
        server = tracking_of(tracking)
    log.info("run %s: %s%s", run, state, f": {error}" if error else "")
    log.info("artifacts: %s; runs and models: %s, experiment %s", store, server.uri if server.enabled else "not tracked", server.experiment)


def run_fetch(model: str, tracking: str, store: str, output: Any) -> None:
    """Put a model of the registry into the store and a pointer to it into an artifact."""
    from earmark.registry.fetch import fetch as fetch_model

    with plain("fetch_model"), tempfile.TemporaryDirectory() as scratch:
        folder = fetch_model(tracking_of(tracking), model, Path(scratch) / "models")
        pointer = save(folder, open_store(store), Path(scratch) / "packs")
    write_json(Path(output.path), pointer.content)
    output.metadata |= {"digest": pointer.digest, "store": store, "model": model}


def join_verdicts(parts: list[Any], place: str) -> dict[str, float]:
    """Write the lines of all workers to one file; count the answers."""
    from earmark.verdict.batch import count, read_verdicts

    with plain("list_verdicts"), tempfile.TemporaryDirectory() as scratch:
        whole = Pointer.union(Pointer.read(Path(part.path)) for part in parts)
        load(whole, Path(scratch) / "verdicts", open_store(whole.store))
        found = read_verdicts(Path(scratch) / "verdicts")
    with complete(Path(place)) as aside:
        aside.write_text("".join(f"{one.model_dump_json()}\n" for one in found))
    return count(found)
