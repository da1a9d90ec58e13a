"""A stage as a step of a cluster's pipeline: inputs fetched from a store, the stage run in a folder of its own, its output stored.

A step's key is the digest of all that its output follows from. What a step with this key stored before is taken as it is, as long as
the store still has every object of it; a step that was killed goes on in its folder where that outlived it.
"""

import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earmark import InputError, params, provenance, stages
from earmark.files import remove, write_json
from earmark.registry.pipeline import RUN
from earmark.store import STEPS, Gone, Pointer, Store, gone, load, open_store, save

log = logging.getLogger(__name__)
WORK = "EARMARK_WORK"  # folder that outlives a killed step, such as a volume; else a temporary one
COMMON = ("output", "metrics", "store", "run", "tracking", "nodes")  # arguments of a component that its output does not follow from
PLACES = stages.ARTIFACTS | {"data": "data"}


@dataclass(frozen=True)
class Step:
    """A stage with its settings, what it reads and its share of the work."""

    stage: stages.Stage
    sections: dict[str, Any]
    inputs: dict[str, Pointer]
    options: dict[str, str]

    @classmethod
    def of(cls, name: str, arguments: dict[str, Any]) -> "Step":
        """From a component's arguments: JSON for sections, artifacts (or lists of them) whose files are pointers, and options."""
        stage = stages.STAGES[name]
        inputs = {key: _read(value) for key, value in arguments.items() if _is_artifact(value) and key not in COMMON}
        options = {stage.option: arguments[stage.option]} if stage.option and arguments.get(stage.option) else {}
        return cls(stage, {section: _parse(section, arguments[section]) for section in stage.sections}, inputs, options)

    @property
    def key(self) -> str:
        """SHA-256 of the stage, its settings, inputs and options, and of the code."""
        found = {"stage": self.stage.name, "sections": self.sections, "options": self.options, "code": provenance.code()}
        found |= {"inputs": {name: pointer.digest for name, pointer in self.inputs.items()}}
        return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()

    @property
    def record(self) -> str:
        """Name of what the store says of it."""
        return f"{STEPS}/{self.stage.name}/{self.key}.json"


def run_step(name: str, arguments: dict[str, Any]) -> dict[str, float]:
    """Run a component's stage and write pointer and metrics into its output artifacts; return the metrics."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr, force=True)
    if arguments.get("run"):
        os.environ[RUN] = arguments["run"]
    try:
        step, store = Step.of(name, arguments), open_store(arguments["store"])
        pointer, metrics = _recall(step, store) or _make(step, store, arguments)
    except InputError as error:
        sys.exit(f"error: {name}: {error}")  # no traceback: the user can mend it
    write_json(Path(arguments["output"].path), pointer.content)
    arguments["output"].metadata |= {"digest": pointer.digest, "store": store.place, "step": step.key}
    arguments["metrics"].metadata |= metrics
    return metrics


def fetch(output: Any, file: str, target: Path) -> None:
    """One file of what a step put into its output artifact."""
    pointer = Pointer.read(Path(output.path))
    (found,) = [one for one in pointer.files if one.path == file]
    with tempfile.TemporaryDirectory() as scratch:
        load(Pointer(pointer.store, (found,)), Path(scratch) / "part", open_store(pointer.store))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(scratch) / "part" / file, target)


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
            _materialise(pointer, folder / PLACES[name], store)
        (folder / "params.yaml").write_text(params.dump(parsed))
        metrics = _execute(step, parsed, int(arguments.get("nodes") or 1))
        pointer = save(folder / stages.ARTIFACTS[step.stage.output], store, folder / "packs")
        write_json(folder / "record.json", {"metrics": metrics, "pointer": pointer.content})
        store.put(folder / "record.json", step.record)
    return pointer, metrics


def _execute(step: Step, parsed: params.Params, nodes: int) -> dict[str, float]:
    """Run the stage in the current folder."""
    return stages.run(step.stage.name, parsed, **step.options)


@contextmanager
def _workspace(step: Step) -> Iterator[Path]:
    """The step's own folder as the current one; removed when the step succeeds, kept for its next try when it is killed or fails."""
    root = Path(os.environ.get(WORK) or tempfile.gettempdir()) / "earmark-steps"
    folder, before = root / f"{step.stage.name}-{step.key[:24]}", Path.cwd()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {root} ({error}): set {WORK} to a folder that this user may write to") from error
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)
    remove(folder)


def _materialise(pointer: Pointer, place: Path, store: Store) -> None:
    """Fetch an input, unless this folder has it from a try before."""
    mark = place.with_name(f".{place.name}.digest")
    if place.exists() and mark.exists() and mark.read_text() == pointer.digest:
        return
    load(pointer, place, store if store.place == pointer.store else open_store(pointer.store))
    mark.write_text(pointer.digest)


def _is_artifact(value: Any) -> bool:
    return hasattr(value, "path") or (isinstance(value, list) and bool(value) and hasattr(value[0], "path"))


def _read(value: Any) -> Pointer:
    """The pointer in an artifact, or what those in a list of them point to together."""
    return Pointer.union(Pointer.read(Path(one.path)) for one in (value if isinstance(value, list) else [value]))


def _parse(section: str, text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except ValueError as error:
        raise InputError(f"argument {section} is no JSON ({error}): give the section of params.yaml as JSON") from error
