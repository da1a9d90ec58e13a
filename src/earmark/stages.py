"""One function a stage: the only thing that DVC, Kubeflow, the command line and tests call.

A stage takes the sections of params that it uses and paths, writes its output complete or not at all, and returns flat metrics.
Heavy imports stand inside the functions, so that listing stages costs nothing and a stage loads no other stage's code.
"""

import inspect
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from earmark import InputError
from earmark.params import (
    AudioParams,
    AugmentationParams,
    ComputeParams,
    CopySynthesisParams,
    CorpusParams,
    CqtFrontEndParams,
    CqtParams,
    DecodingParams,
    DoctorParams,
    DownloadParams,
    EnsembleParams,
    EvaluationParams,
    FrontEndParams,
    GateParams,
    LossParams,
    Params,
    RobustnessParams,
    ScoringParams,
    ShardingParams,
    TracerParams,
    TrackingParams,
    TrainingParams,
    TrialsParams,
    VerdictParams,
    WaveSpecParams,
)

log = logging.getLogger(__name__)
Flat = dict[str, float]


def download(download: DownloadParams, *, output: Path) -> Flat:
    """Fetch corpora and weights, verified and unpacked, each into a folder of its own; none of them twice."""
    from earmark.download.fetch import fetch_all

    return fetch_all(download, output)


def synthesize_copies(
    corpora: tuple[CorpusParams, ...], trials: TrialsParams, decoding: DecodingParams, copysynthesis: CopySynthesisParams, *, output: Path
) -> Flat:
    """Make spoofs from the corpora's bona fide recordings by classical copy-synthesis."""
    from earmark.copies.copysynthesis import synthesize
    from earmark.corpora.prepare import prepare

    table = prepare(corpora, trials.seed, trials.dev_fraction, trials.eval_fraction, trials.max_unreadable)
    recordings = table[(table["key"] == "bonafide") & table["split"].isin(copysynthesis.splits)]
    known, unseen, each = copysynthesis.known, copysynthesis.unseen, copysynthesis.per_utterance
    return {"copies": synthesize(recordings, known, unseen, each, trials.seed, decoding, output)}


def prepare_protocol(
    corpora: tuple[CorpusParams, ...], trials: TrialsParams, decoding: DecodingParams, *, copies: Path, output: Path
) -> Flat:
    """Read the corpora and the copies made of them into one checked table of trials."""
    from earmark.corpora.prepare import prepare_with_copies
    from earmark.storage.files import write_table

    table = prepare_with_copies(corpora, copies, trials, decoding)
    write_table(output, table)
    counts = table.groupby(["split", "key"]).size()
    return {f"{split}/{key}": int(count) for (split, key), count in counts.items()}  # pyright: ignore[reportGeneralTypeIssues]


def doctor(doctor: DoctorParams, trials: TrialsParams, decoding: DecodingParams, *, protocol: Path, output: Path) -> Flat:
    """Check the corpora for faults, leaks and cheap cues, and stop the run when a check of severity error fails."""
    from rich.console import Console

    from earmark.doctor.diagnose import run
    from earmark.doctor.table import show
    from earmark.storage.files import read_table

    diagnosis = run(read_table(protocol), doctor, trials, decoding, output)
    show(diagnosis, Console(stderr=True))
    return {finding.check: finding.count for finding in diagnosis.findings if finding.status != "off"}


def precompute_cqt(
    decoding: DecodingParams, audio: AudioParams, cqt: CqtParams, sharding: ShardingParams, trials: TrialsParams, *,
    protocol: Path, diagnosis: Path, output: Path, shard: str = "1/1",
) -> Flat:  # fmt: skip
    """Decode every recording once, and write waveforms and CQTs into few memory-mapped shards; `diagnosis` is there when they may be."""
    from earmark.corpora.checks import refuse_unreadable
    from earmark.features.shards import precompute
    from earmark.storage.files import read_table

    table = read_table(protocol)
    index = precompute(table, decoding, audio, cqt, sharding, output, shard=shard)
    faults = index[index["error"].notna()].merge(table[["utterance_id", "corpus"]], on="utterance_id")
    refuse_unreadable(faults, table["corpus"].value_counts(), trials.max_unreadable)
    return {"utterances": len(index), "unreadable": int(index["error"].notna().sum())}


def train_detector(
    seed: int, audio: AudioParams, cqt: CqtParams, wavespec: WaveSpecParams, loss: LossParams, augmentation: AugmentationParams,
    training: TrainingParams, scoring: ScoringParams, compute: ComputeParams, *, protocol: Path, features: Path, output: Path,
) -> Flat:  # fmt: skip
    """Train WaveSpec on train, choose its epoch on dev."""
    from earmark.training.detect import train

    return train(seed, audio, cqt, wavespec, loss, augmentation, training, scoring, compute, protocol, features, output)


def score_detector(
    audio: AudioParams, cqt: CqtParams, scoring: ScoringParams, compute: ComputeParams, *,
    protocol: Path, features: Path, detector: Path, output: Path, shard: str = "1/1",
) -> Flat:  # fmt: skip
    """Score whole utterances of dev, eval and a sample of train, and write their embeddings."""
    from earmark.scoring.windows import score_splits

    return score_splits(audio, cqt, scoring, compute, protocol, features, detector, output, shard)


def precompute_front_end(front_end: FrontEndParams, compute: ComputeParams, *, features: Path, output: Path, shard: str = "1/1") -> Flat:
    """Run the tracer's frozen wav2vec 2.0 once over every utterance; nothing to do where it reads the CQT."""
    if isinstance(front_end, CqtFrontEndParams):  # said here too, since what follows imports torch, which takes seconds
        output.mkdir(parents=True, exist_ok=True)
        return {"shards": 0}
    from earmark.features.shards import Features
    from earmark.scoring.front_end import precompute

    return {"shards": precompute(front_end, compute, Features(features), output, shard)}


def train_tracer(
    seed: int, audio: AudioParams, cqt: CqtParams, front_end: FrontEndParams, tracer: TracerParams, compute: ComputeParams, *,
    protocol: Path, features: Path, hidden: Path, output: Path, member: str = "",
) -> Flat:  # fmt: skip
    """Train every member of the ensemble that names sources, or one of them: Real Emphasis, then Fake Dispersion."""
    from earmark.features.shards import Features
    from earmark.networks.compute import accelerator
    from earmark.scoring.embedding import set_up_on
    from earmark.training.trace import train

    if not tracer.members:
        return nothing_to_trace(output)
    if member:
        tracer = only(tracer, member)
    runner = accelerator(compute, tracer.training)
    return train(seed, set_up_on(Features(features), audio, cqt, front_end, tracer, runner, hidden), protocol, output)


def embed_utterances(
    audio: AudioParams, cqt: CqtParams, front_end: FrontEndParams, tracer: TracerParams, compute: ComputeParams, *,
    protocol: Path, features: Path, hidden: Path, members: Path, output: Path, shard: str = "1/1",
) -> Flat:  # fmt: skip
    """Logits and embeddings of every member for whole utterances of all splits."""
    from earmark.scoring.embedding import embed_splits, set_up

    if not tracer.members:
        return nothing_to_trace(output)
    return embed_splits(set_up(audio, cqt, front_end, tracer, compute, features, hidden), protocol, members, output, shard)


def fit_ensemble(tracer: TracerParams, ensemble: EnsembleParams, *, protocol: Path, embeddings: Path, output: Path) -> Flat:
    """Fuse the members: temperatures, weights, bank and thresholds, fitted on dev; answer dev and eval."""
    from earmark.ensemble.fit import fit_ensemble

    if not tracer.members:
        return nothing_to_trace(output)
    return fit_ensemble(ensemble, tracer, protocol, embeddings, output)


def only(tracer: TracerParams, member: str) -> TracerParams:
    """Settings with one member alone. Errors: InputError when there is none of that name."""
    if member not in tracer.members:
        raise InputError(f"--member {member}: tracer.members has {', '.join(tracer.members)}")
    return tracer.model_copy(update={"members": {member: tracer.members[member]}})


def nothing_to_trace(output: Path) -> Flat:
    """Leave an empty folder: params have no member of the tracer."""
    output.mkdir(parents=True, exist_ok=True)
    log.info("tracer.members is empty: no tracing")
    return {"members": 0}


def package_model(
    seed: int, corpora: tuple[CorpusParams, ...], decoding: DecodingParams, audio: AudioParams, cqt: CqtParams, front_end: FrontEndParams,
    tracer: TracerParams, scoring: ScoringParams, verdict: VerdictParams, compute: ComputeParams, *,
    protocol: Path, scores: Path, detector: Path, members: Path, answers: Path, output: Path,
) -> Flat:  # fmt: skip
    """Calibrate the scores on dev, and put all that an answer needs into one folder with digests and a known answer."""
    from earmark.model.bundle import package

    params = Params(
        seed=seed,
        corpora=corpora,
        decoding=decoding,
        audio=audio,
        cqt=cqt,
        front_end=front_end,
        tracer=tracer,
        scoring=scoring,
        verdict=verdict,
        compute=compute,
    )
    return package(params, protocol, scores, detector, members, answers, output)


def robustness(seed: int, robustness: RobustnessParams, compute: ComputeParams, *, protocol: Path, model: Path, output: Path) -> Flat:
    """Degrade a sample of eval by codecs, noise, other rates and rooms, and score it again."""
    from earmark.evaluation.robustness import robustness as degrade_and_score

    return degrade_and_score(seed, robustness, compute, protocol, model, output)


def evaluate(
    seed: int, trials: TrialsParams, evaluation: EvaluationParams, *,
    protocol: Path, scores: Path, detector: Path, answers: Path, model: Path, robustness: Path, output: Path,
) -> Flat:  # fmt: skip
    """Turn scores into tables, figures with intervals, and one report; pure tables in, tables out."""
    import pandas as pd

    from earmark.evaluation.evaluate import Settings, evaluate_tables
    from earmark.evaluation.scorefile import read_asv_scores
    from earmark.evaluation.tracing import read_answers
    from earmark.model.manifest import read_manifest
    from earmark.scoring.windows import read_embeddings, read_scores
    from earmark.storage.files import read_table

    table, scored = read_table(protocol), read_scores(scores)
    trials_of_eval = table[table["split"] == "eval"]
    settings = Settings(evaluation.resamples, seed, evaluation.min_trials, max_missing=trials.max_unreadable)
    return evaluate_tables(
        output,
        scored[scored["utterance_id"].isin(trials_of_eval["utterance_id"])],
        trials_of_eval,
        embeddings=read_embeddings(scores),
        history=pd.read_csv(detector / "history.csv"),
        asv={corpus: read_asv_scores(Path(path)) for corpus, path in evaluation.asv_scores.items()},
        tracing=read_answers(answers, table),
        manifest=read_manifest(model),
        robustness=read_table(robustness / "robustness.parquet"),
        settings=settings,
    )


def register(tracking: TrackingParams, *, model: Path, evaluation: Path, robustness: Path, output: Path) -> Flat:
    """Make the model the registry's challenger, and fetch the champion's tables for the gate."""
    from earmark.registry.register import register

    return register(tracking, model, evaluation, robustness, output)


def gate(seed: int, gate: GateParams, *, model: Path, evaluation: Path, robustness: Path, registration: Path, output: Path) -> Flat:
    """Hold the challenger against the champion on the same trials, and write the decision; pure tables in, record out."""
    from earmark.registry.gate import decide

    return decide(seed, gate, model, evaluation, registration, robustness, output)


def check_recordings(compute: ComputeParams, *, data: Path, model: Path, output: Path, shard: str = "1/1") -> Flat:
    """Judge every recording below data/: a line of JSON each."""
    from earmark.verdict.batch import check_recordings

    return check_recordings(data, model, compute, output, shard)


@dataclass(frozen=True)
class Stage:
    """A stage's function, its output, and what it reads of other stages' outputs.

    `data` says that it opens the corpora, `tracked` that its figures and reports go to MLflow.
    """

    function: Callable[..., Flat]
    output: str
    inputs: tuple[str, ...] = ()
    data: bool = False
    tracked: bool = False
    runners: tuple[str, ...] = ("python", "dvc", "kubeflow")

    @property
    def name(self) -> str:
        """Name of the stage in every runner."""
        return self.function.__name__

    @property
    def option(self) -> str | None:
        """What tells workers apart that share the stage: `shard` (i of n), `member` (one of the tracer's), or None: it is not shared."""
        return next((name for name in ("shard", "member") if name in inspect.signature(self.function).parameters), None)

    @property
    def sections(self) -> tuple[str, ...]:
        """Sections of params that the stage uses, and so depends on: all that its function does not ask for by keyword alone."""
        given = inspect.signature(self.function).parameters.values()
        return tuple(parameter.name for parameter in given if parameter.kind is not parameter.KEYWORD_ONLY)


ARTIFACTS = {
    "data": "data",
    "copies": "artifacts/copies",
    "protocol": "artifacts/protocol.parquet",
    "diagnosis": "artifacts/diagnosis",
    "features": "artifacts/features",
    "detector": "artifacts/detector",
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
STAGES = {
    stage.name: stage
    for stage in (
        Stage(download, "data", runners=("python", "kubeflow")),  # not DVC's: what it fetches is given to `dvc add`
        Stage(synthesize_copies, "copies", data=True),
        Stage(prepare_protocol, "protocol", ("copies",), data=True),
        Stage(doctor, "diagnosis", ("protocol",), data=True, tracked=True),
        Stage(precompute_cqt, "features", ("protocol", "diagnosis"), data=True),
        Stage(train_detector, "detector", ("protocol", "features"), tracked=True),
        Stage(score_detector, "scores", ("protocol", "features", "detector")),
        Stage(precompute_front_end, "hidden", ("features",)),
        Stage(train_tracer, "members", ("protocol", "features", "hidden"), tracked=True),
        Stage(embed_utterances, "embeddings", ("protocol", "features", "hidden", "members")),
        Stage(fit_ensemble, "answers", ("protocol", "embeddings"), tracked=True),
        Stage(package_model, "model", ("protocol", "scores", "detector", "members", "answers")),
        Stage(robustness, "robustness", ("protocol", "model"), data=True, tracked=True),
        Stage(evaluate, "evaluation", ("protocol", "scores", "detector", "answers", "model", "robustness"), tracked=True),
        Stage(register, "registration", ("model", "evaluation", "robustness")),
        Stage(gate, "decision", ("model", "evaluation", "robustness", "registration")),
        Stage(check_recordings, "verdicts", ("data", "model"), runners=("python", "kubeflow")),
    )
}


def run(name: str, params: Params, workspace: Path = Path(), **options: str) -> Flat:
    """Run a stage on the standard places below `workspace`. Errors: InputError naming an input that is not there."""
    stage = STAGES[name]
    paths = {key: workspace / ARTIFACTS[key] for key in stage.inputs}
    for key, path in paths.items():
        if not path.exists():
            maker = next(other.name for other in STAGES.values() if other.output == key)
            raise InputError(f"{path} does not exist: run `earmark {maker}` first")
    sections = {section: getattr(params, section) for section in stage.sections}
    paths["output"] = workspace / ARTIFACTS[stage.output]
    metrics = _tracked(lambda: stage.function(**sections, **paths, **options), stage, params, workspace, paths)
    log.info("%s: %s", name, ", ".join(f"{key} {value:g}" for key, value in metrics.items()))
    return metrics


def _tracked(call: Callable[[], Flat], stage: Stage, params: Params, workspace: Path, paths: dict[str, Path]) -> Flat:
    """Run a stage, with tracking around it where that is wanted; of processes that train together the first alone is tracked."""
    if not stage.tracked or not params.tracking.enabled or os.environ.get("RANK", "0") != "0":
        return call()
    from earmark.registry.tracking import tracked

    return tracked(call, stage, params, workspace, paths)
