"""A stage as a step of a cluster's pipeline: inputs fetched from a store, the stage run in a folder of its own, its output stored.

A step's key is the digest of all that its output follows from. What a step with this key stored before is taken as it is, as long as
the store still has every object of it; a step that was killed goes on in its folder where that outlived it.
"""

import hashlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from earmark import InputError, params, stages
from earmark.kubeflow.pointer import Pointer
from earmark.kubeflow.store import STEPS, Gone, Store, gone, load, open_store, save
from earmark.model.provenance import ORIGINS, origins
from earmark.registry.publish import PLACE, records
from earmark.registry.server import RUN
from earmark.storage.files import file_digest, remove, write_json
from earmark.storage.locks import locked
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
    with plain(name):
        step, store = Step.of(name, arguments), open_store(arguments["store"])
        with _held(step):
            pointer, metrics = _recall(step, store) or _make(step, store, arguments)
    write_json(Path(arguments["output"].path), pointer.content)
    arguments["output"].metadata |= {"digest": pointer.digest, "store": store.place, "step": step.key, "origins": pointer.origins}
    arguments["metrics"].metadata |= metrics
    return metrics


@contextmanager
def plain(name: str) -> Iterator[None]:
    """Log as the command line does; what the user can mend ends the step with one line and no traceback."""
    log_to_stderr(force=True)
    try:
        yield
    except InputError as error:
        sys.exit(printable_lines(f"error: {name}: {error}"))


def tracking_of(text: str) -> params.TrackingParams:
    """The section `tracking` from a component's argument. Errors: InputError."""
    return params.parse({"tracking": _parse("tracking", text)}, "argument tracking").tracking


def code_digest(stage: stages.Stage) -> str:
    """SHA-256 of the files that the output follows from and of the packages installed: others may give another output."""
    places = [stages.PACKAGE / name for name in stage.code]
    files = [path for place in places for path in (place, *sorted(place.rglob("*"))) if path.is_file() and "__pycache__" not in path.parts]
    found = [f"{path.relative_to(stages.PACKAGE)} {file_digest(path)}" for path in files]
    return hashlib.sha256("\n".join([*found, *installed()]).encode()).hexdigest()


def installed() -> list[str]:
    """Names and versions of all packages that this one needs, directly or not; what else lies on the path does not count."""
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
    from earmark.kubeflow.nodes import Job, connect, train_on_nodes

    nodes = Job.model_validate_json(job)
    if not Path.cwd().is_relative_to(nodes.mount):
        raise InputError(f"{Path.cwd()} is not on the volume {nodes.claim}: set {WORK}={nodes.mount}, as compiled pipelines do")
    return train_on_nodes(connect(), nodes, step.stage.name, Path.cwd(), step.options)


@contextmanager
def _held(step: Step) -> Iterator[None]:
    """Let no other run make the same step in the same folder; it waits, and then takes what this one stored."""
    path = step.folder.with_suffix(".lock")
    try:
        with locked(path) as free:
            if not free:
                log.warning("%s: another run makes it in %s: waiting for that", step.stage.name, step.folder)
    except OSError as error:
        raise InputError(f"cannot write to {path.parent} ({error}): set {WORK} to a folder that this user may write to") from error
    with locked(path, wait=True):
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
