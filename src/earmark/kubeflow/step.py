"""A stage as a step of a cluster's pipeline: inputs fetched from a store, the stage run in a folder of its own, its output stored.

A step's key is the digest of all that its output follows from. What a step with this key stored before is taken as it is, as long as
the store still has every object of it; a step that was killed goes on in its folder where that outlived it.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pandas as pd
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from earmark import InputError, params, stages
from earmark.kubeflow.pointer import Pointer
from earmark.kubeflow.store import STEPS, Gone, Store, gone, load, open_store, save
from earmark.model.provenance import ORIGINS, origins
from earmark.registry.pipeline import RUN
from earmark.registry.record import PLACE, records
from earmark.storage.files import complete, file_digest, remove, write_json
from earmark.storage.printable import log_to_stderr, printable_lines

log = logging.getLogger(__name__)
WORK = "EARMARK_WORK"  # folder that outlives a killed step, such as a volume; else a temporary one


@dataclass(frozen=True)
class Step:
    """A stage with its settings, what it reads and its share of the work."""

    stage: stages.Stage
    sections: dict[str, Any]
    inputs: dict[str, Pointer]
    options: dict[str, str]

    @classmethod
    def of(cls, name: str, arguments: dict[str, Any]) -> "Step":
        """From a component's arguments: JSON for sections, artifacts whose files are pointers, and options."""
        stage = stages.STAGES[name]
        inputs = {
            key: Pointer.read(Path(value.path)) for key, value in arguments.items() if hasattr(value, "path") and key in stages.ARTIFACTS
        }
        options = {stage.option: arguments[stage.option]} if stage.option and arguments.get(stage.option) else {}
        return cls(stage, {section: _parse(section, arguments[section]) for section in stage.sections}, inputs, options)

    @property
    def key(self) -> str:
        """SHA-256 of the stage, its settings, inputs and options, and of its code and the packages installed."""
        found = {"stage": self.stage.name, "sections": self.sections, "options": self.options, "code": code_digest(self.stage)}
        found |= {"inputs": {name: pointer.digest for name, pointer in self.inputs.items()}}
        return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()

    @property
    def folder(self) -> Path:
        """Where it works: two runs that share a disk and want the same share it."""
        return Path(os.environ.get(WORK) or tempfile.gettempdir()) / "earmark-steps" / f"{self.stage.name}-{self.key[:24]}"

    @property
    def record(self) -> str:
        """Name of what the store says of it."""
        return f"{STEPS}/{self.stage.name}/{self.key}.json"


def run_step(name: str, arguments: dict[str, Any]) -> dict[str, float]:
    """Run a component's stage and write pointer and metrics into its output artifacts; return the metrics."""
    if arguments.get("run"):
        os.environ[RUN] = arguments["run"]
    with _plain(name):
        step, store = Step.of(name, arguments), open_store(arguments["store"])
        with _held(step):
            pointer, metrics = _recall(step, store) or _make(step, store, arguments)
    write_json(Path(arguments["output"].path), pointer.content)
    arguments["output"].metadata |= {"digest": pointer.digest, "store": store.place, "step": step.key, "origins": pointer.origins}
    arguments["metrics"].metadata |= metrics
    return metrics


def unite(parts: list[Any], output: Any) -> None:
    """One pointer to the files of all parts. Errors: as `Pointer.union`."""
    with _plain("gather"):
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

    with _plain("promote"), tempfile.TemporaryDirectory() as scratch:
        decision = Path(scratch) / "decision.json"
        fetch(arguments["decision"], decision.name, str(decision))
        promote(_tracking(arguments["tracking"]), decision)


def run_report(state: str, error: str, store: str, run: str, tracking: str) -> None:
    """Say how a pipeline run ended and where its results are."""
    with _plain("report"):
        server = _tracking(tracking)
    log.info("run %s: %s%s", run, state, f": {error}" if error else "")
    log.info("artifacts: %s; runs and models: %s, experiment %s", store, server.uri if server.enabled else "not tracked", server.experiment)


def run_fetch(model: str, tracking: str, store: str, output: Any) -> None:
    """Put a model of the registry into the store and a pointer to it into an artifact."""
    from earmark.registry.fetch import fetch as fetch_model

    with _plain("fetch_model"), tempfile.TemporaryDirectory() as scratch:
        folder = fetch_model(_tracking(tracking), model, Path(scratch) / "models")
        pointer = save(folder, open_store(store), Path(scratch) / "packs")
    write_json(Path(output.path), pointer.content)
    output.metadata |= {"digest": pointer.digest, "store": store, "model": model}


def join_verdicts(parts: list[Any], place: str) -> dict[str, float]:
    """Write the lines of all workers to one file; count the answers."""
    from earmark.verdict.batch import count, read_verdicts

    with _plain("list_verdicts"), tempfile.TemporaryDirectory() as scratch:
        whole = Pointer.union(Pointer.read(Path(part.path)) for part in parts)
        load(whole, Path(scratch) / "verdicts", open_store(whole.store))
        found = read_verdicts(Path(scratch) / "verdicts")
    with complete(Path(place)) as aside:
        aside.write_text("".join(f"{one.model_dump_json()}\n" for one in found))
    return count(found)


@contextmanager
def _plain(name: str) -> Iterator[None]:
    """Log as the command line does; what the user can mend ends the step with one line and no traceback."""
    log_to_stderr(force=True)
    try:
        yield
    except InputError as error:
        sys.exit(printable_lines(f"error: {name}: {error}"))


def _tracking(text: str) -> params.TrackingParams:
    return params.parse({"tracking": _parse("tracking", text)}, "argument tracking").tracking


def code_digest(stage: stages.Stage) -> str:
    """SHA-256 of the files that the output follows from and of the packages installed: others may give another output."""
    files = [path for name in stage.code for path in sorted(_below(stages.PACKAGE / name))]
    found = [f"{path.relative_to(stages.PACKAGE)} {file_digest(path)}" for path in files]
    return hashlib.sha256("\n".join([*found, *installed()]).encode()).hexdigest()


def _below(place: Path) -> list[Path]:
    """A file, or all files of a wing."""
    if place.is_file():
        return [place]
    return [path for path in place.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def installed() -> list[str]:
    """Names and versions of all packages that this one needs, directly or not."""
    versions: dict[str, str] = {}
    names = ["earmark"]
    while names:
        name = canonicalize_name(names.pop())
        if name in versions:
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:  # of another platform
            continue
        versions[name] = found.version
        needed = map(Requirement, found.requires or ())
        names += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    del versions["earmark"]
    return [f"{name} {version}" for name, version in sorted(versions.items())]


def _recall(step: Step, store: Store) -> tuple[Pointer, dict[str, float]] | None:
    """What an earlier step with the same key stored, unless something of it is gone, or it asks a registry that may have changed."""
    if "tracking" in step.stage.sections:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        record = Path(scratch) / "record.json"
        try:
            store.get(step.record, record)
        except Gone:
            return None
        kept = json.loads(record.read_text())
    pointer = Pointer.of(kept["pointer"], step.record)
    if lost := gone(pointer, store):
        log.warning("%s: %d objects of its stored output are gone, first %s: it runs again", step.stage.name, len(lost), lost[0])
        return None
    log.info("%s: taken from the store, step %s", step.stage.name, step.key)
    return pointer, kept["metrics"]


def _make(step: Step, store: Store, arguments: dict[str, Any]) -> tuple[Pointer, dict[str, float]]:
    """Run the stage and store its output."""
    settings = {name: json.loads(arguments[name]) for name in ("tracking",) if arguments.get(name)} | step.sections
    parsed = params.parse(settings, f"the arguments of {step.stage.name}")
    with _workspace(step) as folder:
        for name, pointer in step.inputs.items():
            _materialise(pointer, folder / stages.ARTIFACTS[name], store)
        (folder / "params.yaml").write_text(params.dump(parsed))
        if known := {name: found for pointer in step.inputs.values() for name, found in pointer.origins.items()}:
            write_json(folder / ORIGINS, known)
        metrics = _on_nodes(step, arguments["job"]) if arguments.get("job") else stages.run(step.stage.name, parsed, Path(), **step.options)
        pointer = replace(save(folder / stages.ARTIFACTS[step.stage.output], store, folder / "packs"), origins=origins(folder))
        write_json(folder / "record.json", {"metrics": metrics, "pointer": pointer.content})
        store.put(folder / "record.json", step.record)
    return pointer, metrics


def _on_nodes(step: Step, job: str) -> dict[str, float]:
    """Run the stage on several nodes, which mount the volume that this folder is on."""
    from earmark.kubeflow.nodes import Job, connect, pod_patches, train_on_nodes

    nodes = Job.model_validate_json(job)
    if not Path.cwd().is_relative_to(nodes.mount):
        raise InputError(f"{Path.cwd()} is not on the volume {nodes.claim}: set {WORK}={nodes.mount}, as compiled pipelines do")
    return train_on_nodes(connect(), nodes, step.stage.name, Path.cwd(), step.options, patches=pod_patches(nodes))


@contextmanager
def _held(step: Step) -> Iterator[None]:
    """Let no other run make the same step in the same folder; it waits, and then takes what this one stored."""
    root, path = step.folder.parent, step.folder.with_suffix(".lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        stream = path.open("w")
    except OSError as error:
        raise InputError(f"cannot write to {root} ({error}): set {WORK} to a folder that this user may write to") from error
    with stream:  # whoever dies lets go of it
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("%s: another run makes it in %s: waiting for that", step.stage.name, step.folder)
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:
            log.warning("%s has no locks (%s): start no two runs with the same settings at once", root, error)
        yield


@contextmanager
def _workspace(step: Step) -> Iterator[Path]:
    """The step's own folder as the current one; removed when the step succeeds, kept for its next try when it is killed or fails."""
    folder = step.folder
    folder.mkdir(exist_ok=True)
    with chdir(folder):  # roots of corpora, and the paths of recordings in tables, are relative to it
        yield folder
    _keep_unpublished(folder, folder.parent.parent)
    remove(folder)


def _keep_unpublished(folder: Path, place: Path) -> None:
    """What MLflow was not there to take outlives the step's folder."""
    for record in records(folder / PLACE):
        kept = place / PLACE / record.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        remove(kept)
        os.replace(record, kept)
        log.warning("not all of it reached MLflow: %s is kept; run `earmark sync` in %s, with the tracking of this run", kept, place)


def _materialise(pointer: Pointer, place: Path, store: Store) -> None:
    """Fetch an input, unless this folder has it from a try before."""
    mark = place.with_name(f".{place.name}.digest")
    if place.exists() and mark.exists() and mark.read_text() == pointer.digest:
        return
    load(pointer, place, store if store.place == pointer.store else open_store(pointer.store))
    mark.write_text(pointer.digest)


def _parse(section: str, text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except ValueError as error:
        raise InputError(f"argument {section} is no JSON ({error}): give the section of params.yaml as JSON") from error
