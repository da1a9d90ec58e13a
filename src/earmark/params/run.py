"""All settings of a run: read, laid over each other, checked, written, described."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from earmark import InputError
from earmark.params.data import AudioParams, CopySynthesisParams, CorpusParams, CqtParams, ShardingParams, TrialsParams
from earmark.params.decoding import DecodingParams
from earmark.params.detector import DetectorParams, ScoringParams
from earmark.params.doctor import DoctorParams
from earmark.params.download import DownloadParams
from earmark.params.evaluation import EvaluationParams
from earmark.params.registry import GateParams, TrackingParams
from earmark.params.robustness import RobustnessParams
from earmark.params.section import Section, setting
from earmark.params.strict import parse_yaml
from earmark.params.tracer import EnsembleParams, FrontEndParams, TracerParams, Wav2Vec2FrontEndParams
from earmark.params.training import ComputeParams
from earmark.params.verdict import VerdictParams


class Params(Section):
    """All settings of a run; each stage gets the sections it uses, no more."""

    seed: int = setting(688, "port", "seed of first weights, batches, augmentation and bootstrap", ge=0)
    download: DownloadParams = DownloadParams()
    corpora: tuple[CorpusParams, ...] = setting((CorpusParams(),), "ours", "corpora of the run and the splits each serves", min_length=1)
    trials: TrialsParams = TrialsParams()
    copysynthesis: CopySynthesisParams = CopySynthesisParams()
    doctor: DoctorParams = DoctorParams()
    decoding: DecodingParams = DecodingParams()
    audio: AudioParams = AudioParams()
    cqt: CqtParams = CqtParams()
    sharding: ShardingParams = ShardingParams()
    detector: DetectorParams = DetectorParams()
    scoring: ScoringParams = ScoringParams()
    front_end: FrontEndParams = setting(Wav2Vec2FrontEndParams(), "paper", "what the tracer reads")
    tracer: TracerParams = TracerParams()
    ensemble: EnsembleParams = EnsembleParams()
    verdict: VerdictParams = VerdictParams()
    robustness: RobustnessParams = RobustnessParams()
    evaluation: EvaluationParams = EvaluationParams()
    compute: ComputeParams = ComputeParams()
    tracking: TrackingParams = TrackingParams()
    gate: GateParams = GateParams()


def load(path: Path | None, overlays: list[Path] | None = None, assignments: list[str] | None = None) -> Params:
    """Read params.yaml (None: built-in values), lay presets and `key.path=value` assignments over it, check all.

    Errors: InputError naming the file or assignment, the key's path and what is allowed there.
    """
    layers = [(str(file), _read_yaml(file)) for file in ([path] if path else []) + (overlays or [])]
    layers += [(f"--set {text}", read_assignment(text)) for text in assignments or []]
    return lay(layers)


def parse(content: dict[str, Any], where: str) -> Params:
    """Check a nested dict. Errors: InputError listing every wrong key with its path and what is allowed."""
    return lay([(where, content)])


def lay(layers: list[tuple[str, dict[str, Any]]]) -> Params:
    """Check layers (what each is called, its nested dict), each over those before it. Errors: InputError as `parse`, naming the layer."""
    content: dict[str, Any] = {}
    for _, layer in layers:
        merge(content, copy.deepcopy(layer))
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        problems = error.errors()
        inner = [problem for problem in problems if not any(_follows(problem, other) for other in problems)]
        raise InputError("\n".join(_explain(problem, layers) for problem in inner)) from error


def _follows(problem: Any, other: Any) -> bool:
    """Whether a list is only too short because an item of it was refused."""
    length = len(problem["loc"])
    return problem["type"] == "too_short" and len(other["loc"]) > length and other["loc"][:length] == problem["loc"]


def dump(params: Section) -> str:
    """YAML text of a section, every value spelled out."""
    return yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def dump_changes(params: Params) -> str:
    """YAML text of what differs from the built-in values; every section stands in it, since DVC follows sections by name."""
    changed = _changes(params, Params())
    whole = {name: changed.get(name, getattr(params, name) if name == "seed" else {}) for name in Params.model_fields}
    whole["corpora"] = [_changes(corpus, CorpusParams()) for corpus in params.corpora]
    whole["front_end"] = {"kind": params.front_end.kind} | whole["front_end"]
    return yaml.safe_dump(to_jsonable_python(whole), sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def _changes(section: Section, default: Section) -> dict[str, Any]:
    """Settings of a section that are not the default's; of a section of another kind its kind, and what differs from its own defaults."""
    found: dict[str, Any] = {}
    if type(section) is not type(default):
        return {"kind": getattr(section, "kind")} | _changes(section, type(section)())  # noqa: B009 - unions alone differ in type
    for name in type(section).model_fields:
        value, usual = getattr(section, name), getattr(default, name)
        if value == usual:
            continue
        if isinstance(value, Section):
            found[name] = _changes(value, usual)
        elif isinstance(value, dict) and any(isinstance(item, Section) for item in value.values()):
            found[name] = {key: _kind(item) | _changes(item, type(item)()) for key, item in value.items()}
        else:
            found[name] = value
    return found


def _kind(section: Section) -> dict[str, Any]:
    """Its kind, where it is one of several."""
    return {"kind": kind} if (kind := getattr(section, "kind", None)) else {}


def spell(value: Any) -> str:
    """A value in one line, as `--set` takes it."""
    return yaml.safe_dump(to_jsonable_python(value), default_flow_style=True, allow_unicode=True, width=1_000_000).split("\n")[0]


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
        content = parse_yaml(path.read_bytes(), str(path))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; `earmark params -o {path}` writes one") from error
    except OSError as error:
        raise InputError(f"{path}: not readable as settings: {error}") from error
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


def read_assignment(assignment: str) -> dict[str, Any]:
    """The nested dict that one `key.path=value` stands for; the value is YAML. Errors: InputError when it is written otherwise."""
    path, separator, value = assignment.partition("=")
    if not separator:
        raise InputError(f"--set {assignment}: write key.path=value")
    overlay: Any = parse_yaml(value, f"--set {assignment}")
    for key in reversed(path.split(".")):
        overlay = {key: overlay}
    return overlay


PUBLISHED = "is no setting any more: the published value stands in the code; remove the key"
BOUND = "is no setting any more: its bound stands in doctor/bounds.py; remove the key"
LIMIT = "is no setting any more: its limit stands in the code of download/; remove the key"
FIRST_LAYOUT = {  # keys of a section, by their last part, that params files had at first, and what became of them
    "augmentation": dict.fromkeys(
        ("bands", "frequency_hz", "bandwidth_hz", "coefficients", "gain_db", "bias_db", "orders", "impulse_percent", "impulse_gain"),
        PUBLISHED,
    ),
    "doctor": dict.fromkeys(
        (
            "silent_dbfs",
            "clipped_share",
            "silence_db",
            "min_correlation",
            "min_overlap",
            "max_auc",
            "confidence",
            "resamples",
            "min_trials",
        ),
        BOUND,
    ),
    "download": dict.fromkeys(("piece_mb", "backoff_seconds", "max_files"), LIMIT),
    "training": {"made_share": "is called copy_share now"},
    "tracer": {"made_sources": "is called copies_are_sources now", "temperatures": PUBLISHED, "pool_shares": PUBLISHED},
}
FIRST_SECTIONS = {
    "wavespec": "detector.members.wavespec.network",
    **{name: f"detector.members.wavespec.{name}" for name in ("loss", "augmentation", "training")},
}


def _explain(problem: Any, layers: list[tuple[str, dict[str, Any]]]) -> str:
    where, content = max(reversed(layers), key=lambda layer: len(_keys(layer[1], problem["loc"])))
    last = problem["loc"][-1:] if problem["type"] == "missing" else ()
    path = ".".join(map(str, (*_keys(content, problem["loc"]), *last)))
    if problem["type"] == "extra_forbidden":
        *sections, key = problem["loc"]
        if not sections and key in FIRST_SECTIONS:
            return f"{where}: {path}: is called {FIRST_SECTIONS[key]} now"
        became = next((FIRST_LAYOUT[one][key] for one in reversed(sections) if key in FIRST_LAYOUT.get(one, ())), None)
        return f"{where}: {path}: {became or 'unknown key; `earmark params` lists the known ones'}"
    if problem["type"] == "union_tag_invalid" and problem["ctx"]["tag"] == "refd":
        return f"{where}: {path}: kind refd is called aasist now"
    return f"{where}: {path}: {problem['msg']}, not {problem['input']!r}"


def _keys(content: Any, path: tuple[int | str, ...]) -> list[int | str]:
    """The parts of a path that lead somewhere; the kind of a union is no key, and passed over."""
    keys: list[int | str] = []
    for part in path:
        try:
            content = content[part]
        except (KeyError, IndexError, TypeError):
            continue
        keys.append(part)
    return keys
