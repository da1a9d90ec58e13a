"""The table of stages, which the command line, DVC, Kubeflow and tests read, and `run`, which all of them call.

A stage takes the sections of params that it uses and paths, writes its output complete or not at all, and returns flat metrics.
Its function is imported when it runs, so that the table costs nothing and a stage loads no other stage's code.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from earmark import InputError
from earmark.params import CqtFrontEndParams, Params, Section

log = logging.getLogger(__name__)
Flat = dict[str, float]
PACKAGE = Path(__file__).parent


def _without_members(params: Params) -> bool:
    return not params.tracer.members


def _reads_the_cqt(params: Params) -> bool:
    return isinstance(params.front_end, CqtFrontEndParams)


@dataclass(frozen=True)
class Stage:
    """A stage: `function` makes `output` of other stages' outputs `inputs` with `sections` of params and the code of `wings`.

    `data` says that it opens the corpora, `tracked` that its metrics and reports go to MLflow, `option` what tells workers apart that
    share it: `shard` (i of n) or `member` (one of several). Where `idle` holds it has nothing to do: its output is an empty folder.
    """

    name: str
    summary: str
    function_name: str  # below the package
    output: str
    inputs: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    wings: tuple[str, ...] = ()  # folders and files below the package
    option: str | None = None
    data: bool = False
    tracked: bool = False
    runs_on: tuple[str, ...] = ("python", "dvc", "kubeflow")
    idle: Callable[[Params], bool] = lambda params: False

    @property
    def function(self) -> Callable[..., Flat]:
        """The function, imported."""
        module, _, name = self.function_name.rpartition(".")
        return getattr(import_module(f"earmark.{module}"), name)

    @property
    def code(self) -> tuple[str, ...]:
        """Folders and files below the package that its output follows from: its wings, and the files of sections and what they hold."""
        values = [getattr(Params(), section) for section in self.sections if section != "seed"]
        modules = {type(value[0] if isinstance(value, tuple) else value).__module__ for value in values}
        for module in [*modules]:
            modules |= {one.__module__ for one in vars(import_module(module)).values() if _is_settings(one)}
        files = [f"{one.removeprefix('earmark.').replace('.', '/')}.py" for one in modules]
        return tuple(sorted({"storage", *self.wings, *files}))


def _is_settings(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Section) and value is not Section


ARTIFACTS = {
    "data": "data",
    "copies": "artifacts/copies",
    "protocol": "artifacts/protocol.parquet",
    "diagnosis": "artifacts/diagnosis",
    "features": "artifacts/features",
    "detectors": "artifacts/detectors",
    "scores": "artifacts/scores",
    "hidden": "artifacts/hidden",
    "members": "artifacts/members",
    "embeddings": "artifacts/embeddings",
    "answers": "artifacts/ensemble",
    "model": "artifacts/model",
    "robustness": "artifacts/robustness",
    "evaluation": "artifacts/evaluation",
    "registration": "artifacts/registration",
    "decision": "artifacts/decision",
    "verdicts": "artifacts/verdicts",
}
TABLE = ("audio", "corpora")  # what a stage needs to read corpora into one table
FEATURES = (*TABLE, "features")
SCORED = (*FEATURES, "networks", "scoring")
TRAINED = (*SCORED, "metrics", "training")
JUDGED = (*SCORED, "metrics", "ensemble", "model")
TRACER = ("audio", "cqt", "front_end", "tracer", "compute")

STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            "download", "Fetch corpora and weights, verified and unpacked, each into a folder of its own; none of them twice.",
            "download.fetch.fetch_all", "data",
            sections=("download",), wings=("download",),
            runs_on=("python", "kubeflow"),  # not DVC's: what it fetches is given to `dvc add`
        ),
        Stage(
            "synthesize_copies", "Make spoofs from the corpora's bona fide recordings by classical copy-synthesis.",
            "copies.copysynthesis.synthesize_copies", "copies",
            sections=("corpora", "trials", "decoding", "copysynthesis"), wings=(*TABLE, "copies"), data=True,
        ),
        Stage(
            "prepare_protocol", "Read the corpora and the copies made of them into one checked table of trials.",
            "corpora.prepare.prepare_protocol", "protocol", ("copies",),
            sections=("corpora", "trials", "decoding"), wings=TABLE, data=True,
        ),
        Stage(
            "doctor", "Check the corpora for faults, leaks and cheap cues, and stop the run when a check of severity error fails.",
            "doctor.diagnose.diagnose_run", "diagnosis", ("protocol",),
            sections=("doctor", "trials", "decoding"), wings=(*TABLE, "doctor", "metrics", "report"), data=True, tracked=True,
        ),
        Stage(
            "precompute_cqt", "Decode every recording once, and write waveforms and CQTs into few memory-mapped shards.",
            "features.shards.precompute_cqt", "features", ("protocol", "diagnosis"),
            sections=("decoding", "audio", "cqt", "sharding", "trials"), wings=FEATURES, option="shard", data=True,
        ),
        Stage(
            "train_detector", "Train every member of the detector, or one: on train, with the epoch chosen on dev.",
            "training.detect.train_detector", "detectors", ("protocol", "features"),
            sections=("seed", "audio", "cqt", "detector", "scoring", "compute"), wings=TRAINED, option="member", tracked=True,
        ),
        Stage(
            "score_detector", "Score dev, eval and a sample of train with every member, window by window.",
            "scoring.windows.score_detector", "scores", ("protocol", "features", "detectors"),
            sections=("audio", "cqt", "detector", "scoring", "compute"), wings=SCORED, option="shard",
        ),
        Stage(
            "precompute_front_end", "Run the tracer's frozen wav2vec 2.0 once over every utterance; idle where it reads the CQT.",
            "scoring.front_end.precompute_front_end", "hidden", ("features",),
            sections=("front_end", "compute"), wings=SCORED, option="shard", idle=_reads_the_cqt,
        ),
        Stage(
            "train_tracer", "Train every member of the ensemble that names sources, or one: Real Emphasis, then Fake Dispersion.",
            "training.trace.train_tracer", "members", ("protocol", "features", "hidden"),
            sections=("seed", *TRACER), wings=TRAINED, option="member", tracked=True, idle=_without_members,
        ),
        Stage(
            "embed_utterances", "Compute logits and embeddings of every member for whole utterances of all splits.",
            "scoring.embedding.embed_utterances", "embeddings", ("protocol", "features", "hidden", "members"),
            sections=TRACER, wings=(*SCORED, "metrics"), option="shard", idle=_without_members,
        ),
        Stage(
            "fit_ensemble", "Fuse the detector's members and the tracer's, fitted on dev; score and answer dev and eval.",
            "ensemble.fit.fit_ensemble", "answers", ("protocol", "scores", "embeddings"),
            sections=("detector", "tracer", "ensemble"), wings=(*SCORED, "metrics", "ensemble"), tracked=True,
        ),
        Stage(
            "package_model", "Calibrate the scores on dev, and put all that an answer needs into one folder with a known answer.",
            "model.bundle.package_model", "model", ("protocol", "detectors", "members", "answers"),
            sections=("seed", "corpora", "decoding", "audio", "cqt", "detector", "front_end", "tracer", "scoring", "verdict", "compute"),
            wings=(*JUDGED, "download"),
        ),
        Stage(
            "robustness", "Degrade a sample of eval by codecs, noise, other rates and rooms, and score it again.",
            "evaluation.robustness.robustness", "robustness", ("protocol", "model"),
            sections=("seed", "robustness", "compute"), wings=(*JUDGED, "evaluation/robustness.py"), data=True, tracked=True,
        ),
        Stage(
            "evaluate", "Turn scores into tables, figures with intervals, and one report; pure tables in, tables out.",
            "evaluation.evaluate.evaluate", "evaluation", ("protocol", "detectors", "answers", "model", "robustness"),
            sections=("seed", "trials", "evaluation"), wings=(*JUDGED, "evaluation", "report"), tracked=True,
        ),
        Stage(
            "register", "Make the model the registry's challenger, and fetch the champion's tables for the gate.",
            "registry.register.register", "registration", ("model", "evaluation", "robustness"),
            sections=("tracking",), wings=("model", "registry"),
        ),
        Stage(
            "gate", "Hold the challenger against the champion on the same trials, and write the decision.",
            "registry.gate.gate", "decision", ("model", "evaluation", "robustness", "registration"),
            sections=("seed", "gate"), wings=("corpora", "metrics", "model", "registry"),
        ),
        Stage(
            "check_recordings", "Judge every recording below data/: a line of JSON each.",
            "verdict.batch.check_recordings", "verdicts", ("data", "model"),
            sections=("compute",), wings=(*JUDGED, "verdict"), option="shard", runs_on=("python", "kubeflow"),
        ),
    )
}  # fmt: skip


def run(name: str, params: Params, workspace: Path = Path(), **options: str) -> Flat:
    """Run a stage on the standard places below `workspace`. Errors: InputError naming an input that is not there."""
    stage = STAGES[name]
    paths = {key: workspace / ARTIFACTS[key] for key in stage.inputs}
    for key, path in paths.items():
        if not path.exists():
            maker = next(other.name for other in STAGES.values() if other.output == key)
            raise InputError(f"{path} does not exist: run `earmark {maker}` first")
    paths["output"] = workspace / ARTIFACTS[stage.output]
    if stage.idle(params):
        paths["output"].mkdir(parents=True, exist_ok=True)
        log.info("%s: nothing to do with these settings", name)
        return {}
    sections = {section: getattr(params, section) for section in stage.sections}
    function = stage.function
    if stage.tracked and params.tracking.enabled and os.environ.get("RANK", "0") == "0":  # the first of processes that train together
        from earmark.registry.tracking import tracked

        metrics = tracked(lambda: function(**sections, **paths, **options), name, sections, params.tracking, workspace, paths, options)
    else:
        metrics = function(**sections, **paths, **options)
    log.info("%s: %s", name, ", ".join(f"{key} {value:g}" for key, value in metrics.items()))
    return metrics
