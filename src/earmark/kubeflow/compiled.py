"""A compiled pipeline file, and the arguments that a run of it is given."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from earmark import InputError, params
from earmark.params import Params
from earmark.params.run import lay, read_assignment

AGAIN = "compile one: python -m pipelines.compile"
SCORING = "earmark-scoring"


@dataclass(frozen=True)
class Compiled:
    """A pipeline file and the pipeline in it."""

    path: Path
    spec: dict[str, Any]

    @property
    def name(self) -> str:
        """The pipeline's own name."""
        return self.spec["pipelineInfo"]["name"]

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """Its parameters with type and default."""
        return self.spec["root"].get("inputDefinitions", {}).get("parameters", {})


def read_pipeline(path: Path) -> Compiled:
    """Read it, every field checked against Kubeflow's own definitions. Errors: InputError when it is no compiled pipeline."""
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    try:
        documents = list(yaml.safe_load_all(path.read_text()))
        spec, platform = [*documents, {}][:2]
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
        found = Compiled(path, spec)
        if not (found.name and steps(spec)) or len(documents) > 2:
            raise ValueError("it has no step")
        if path.suffix not in (".yaml", ".yml"):
            raise ValueError("its name ends in .yaml")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: {AGAIN}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    except (yaml.YAMLError, json_format.ParseError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no compiled pipeline ({' '.join(str(error).split())[:200]}): {AGAIN}") from error
    return found


def steps(spec: dict[str, Any]) -> set[str]:
    """Names of the tasks that run a container; the others are loops, conditions and groups of those."""
    components = spec["components"]
    dags = [spec["root"]["dag"], *(one["dag"] for one in components.values() if "dag" in one)]
    tasks = [(name, components[task["componentRef"]["name"]]) for dag in dags for name, task in dag["tasks"].items()]
    return {name for name, component in tasks if "executorLabel" in component}


def arguments(pipeline: Compiled, given: list[str], changes: list[str], recordings: str | None) -> dict[str, Any]:
    """What a run is told beside the pipeline's defaults: `given` name=value, `changes` section.key=value, an address of recordings.

    Errors: InputError naming the argument: one that the pipeline does not have, a value that params refuse, a parameter without value.
    """
    values = dict(_argument(pipeline, one) for one in given)
    sections = {name: _section(pipeline, name, values) for name in pipeline.parameters if name in Params.model_fields}
    for change in changes:
        _require(pipeline, change.partition("=")[0].split(".")[0], f"--set {change}")
    if recordings:
        if pipeline.name != SCORING:
            raise InputError(f"--recordings is for the pipeline {SCORING}: {pipeline.path} is {pipeline.name}")
        sections["download"]["sources"] = {"recordings": recordings}
    default = params.parse({name: _section(pipeline, name, {}) for name in sections}, str(pipeline.path))
    settings = lay([("the arguments", sections), *((f"--set {change}", read_assignment(change)) for change in changes)])
    _refuse_other_shape(default, settings)
    changed = [name for name in sections if getattr(settings, name) != getattr(default, name)]
    content = settings.model_dump(mode="json")
    values = {name: value for name, value in values.items() if name not in sections}
    values |= {name: content[name] if name == "seed" else json.dumps(content[name]) for name in changed}
    if missing := [name for name, one in pipeline.parameters.items() if not one.get("isOptional") and name not in values]:
        raise InputError(f"{pipeline.name} wants a value for {missing[0]}: --argument {missing[0]}=…")
    return values


def _argument(pipeline: Compiled, text: str) -> tuple[str, Any]:
    """Name and value, of the type that the pipeline wants."""
    name, separator, value = text.partition("=")
    if not separator:
        raise InputError(f"--argument {text}: write name=value")
    kind = _require(pipeline, name, f"--argument {text}")["parameterType"]
    readers = {"STRING": str, "NUMBER_INTEGER": int, "NUMBER_DOUBLE": float}
    try:
        return name, readers.get(kind, json.loads)(value)
    except ValueError as error:
        raise InputError(f"--argument {text}: {name} is a {kind}") from error


def _require(pipeline: Compiled, name: str, where: str) -> dict[str, Any]:
    if name not in pipeline.parameters:
        raise InputError(f"{where}: {pipeline.name} has no parameter {name}; it has {', '.join(sorted(pipeline.parameters))}")
    return pipeline.parameters[name]


def _section(pipeline: Compiled, name: str, values: dict[str, Any]) -> Any:
    """A section of params as plain values: the argument's, or the pipeline's default."""
    value = values.get(name, pipeline.parameters[name].get("defaultValue"))
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise InputError(f"{name} is no JSON ({error}): give the whole section as JSON, or one key with --set {name}.key=value") from error


def _refuse_other_shape(default: Params, settings: Params) -> None:
    """A loop's branches are written into the compiled file: settings that make other ones would be ignored."""
    shapes = {
        "detector.members": [list(one.detector.members) for one in (default, settings)],
        "tracer.members": [list(one.tracer.members) for one in (default, settings)],
        "front_end.kind": [one.front_end.kind for one in (default, settings)],
    }
    for key, (compiled, wanted) in shapes.items():
        if compiled != wanted:
            raise InputError(f"{key} decides which steps there are, and this pipeline was compiled with {compiled}: {AGAIN} --set …")
