"""All settings of a run: read, laid over each other, checked, written, described."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from earmark import InputError
from earmark.params.data import AudioParams, CopySynthesisParams, CorpusParams, CqtParams, EvaluationParams, ShardingParams, TrialsParams
from earmark.params.detector import AugmentationParams, LossParams, ScoringParams, WaveSpecParams
from earmark.params.doctor import DoctorParams
from earmark.params.download import DownloadParams
from earmark.params.registry import GateParams, TrackingParams
from earmark.params.robustness import RobustnessParams
from earmark.params.section import Section, setting
from earmark.params.tracer import CqtFrontEndParams, EnsembleParams, FrontEndParams, TracerParams
from earmark.params.training import ComputeParams, TrainingParams
from earmark.params.verdict import VerdictParams


class Params(Section):
    """All settings of a run; each stage gets the sections it uses, no more."""

    seed: int = setting(688, "port", "seed of first weights, batches, augmentation and bootstrap", ge=0)
    download: DownloadParams = DownloadParams()
    corpora: tuple[CorpusParams, ...] = setting((CorpusParams(),), "ours", "corpora of the run and the splits each serves", min_length=1)
    trials: TrialsParams = TrialsParams()
    copysynthesis: CopySynthesisParams = CopySynthesisParams()
    doctor: DoctorParams = DoctorParams()
    audio: AudioParams = AudioParams()
    cqt: CqtParams = CqtParams()
    sharding: ShardingParams = ShardingParams()
    wavespec: WaveSpecParams = WaveSpecParams()
    loss: LossParams = LossParams()
    augmentation: AugmentationParams = AugmentationParams()
    training: TrainingParams = TrainingParams()
    scoring: ScoringParams = ScoringParams()
    front_end: FrontEndParams = setting(CqtFrontEndParams(), "ours", "what the tracer reads")
    tracer: TracerParams = TracerParams()
    ensemble: EnsembleParams = EnsembleParams()
    verdict: VerdictParams = VerdictParams()
    robustness: RobustnessParams = RobustnessParams()
    evaluation: EvaluationParams = EvaluationParams()
    compute: ComputeParams = ComputeParams()
    tracking: TrackingParams = TrackingParams()
    gate: GateParams = GateParams()


def load(path: Path, overlays: list[Path] | None = None, assignments: list[str] | None = None) -> Params:
    """Read params.yaml, lay presets and `key.path=value` assignments over it, check all.

    Errors: InputError naming the file, or the key's path and what is allowed there.
    """
    content = _read_yaml(path)
    for overlay in overlays or []:
        merge(content, _read_yaml(overlay))
    for assignment in assignments or []:
        assign(content, assignment)
    return parse(content, str(path))


def parse(content: dict[str, Any], where: str) -> Params:
    """Check a nested dict. Errors: InputError listing every wrong key with its path and what is allowed."""
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise InputError("\n".join(_explain(problem, where) for problem in error.errors())) from error


def dump(params: Section) -> str:
    """YAML text of a section, every value spelled out."""
    return yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def describe(section: Section, prefix: str = "") -> Iterator[tuple[str, Any, str, str]]:
    """Rows (key path, value, provenance, description) of every setting."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from describe(value, f"{prefix}{name}.")
        elif inner := _sections(value):
            for key, item in inner:
                yield from describe(item, f"{prefix}{name}.{key}.")
        else:
            extra = field.json_schema_extra
            provenance = str(extra["provenance"]) if isinstance(extra, dict) else ""
            yield f"{prefix}{name}", value, provenance, field.description or ""


def _sections(value: Any) -> list[tuple[int | str, Section]]:
    """Sections in a list or dict of them; empty for any other value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, tuple) else ()
    return [(key, item) for key, item in pairs if isinstance(item, Section)]


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; `earmark params` writes one") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no settings")
    return content


def merge(below: dict[str, Any], above: dict[str, Any]) -> None:
    """Lay settings over others; an empty section, or one of another kind, replaces what was there."""
    for key, value in above.items():
        if isinstance(value, dict) and value and isinstance(below.get(key), dict) and _alike(below[key], value):
            merge(below[key], value)
        else:
            below[key] = value


def _alike(below: dict[str, Any], above: dict[str, Any]) -> bool:
    return above.get("kind", below.get("kind")) == below.get("kind")


def assign(content: dict[str, Any], assignment: str) -> None:
    """Lay one `key.path=value` over settings; the value is YAML. Errors: InputError when it is written otherwise."""
    path, separator, value = assignment.partition("=")
    if not separator:
        raise InputError(f"--set {assignment}: write key.path=value")
    try:
        overlay: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {assignment}: not YAML: {' '.join(str(error).split())}") from error
    for key in reversed(path.split(".")):
        overlay = {key: overlay}
    merge(content, overlay)


def _explain(problem: Any, where: str) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{where}: {path}: unknown key; `earmark params` lists the known ones"
    return f"{where}: {path}: {problem['msg']}, not {problem['input']!r}"
