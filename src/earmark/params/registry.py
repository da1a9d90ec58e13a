"""Settings of tracking, and of what a model must show before it is promoted."""

from typing import Literal

from earmark.params.section import Section, setting

Figure = Literal["eer", "min_dcf", "cllr", "accuracy", "auroc"]
COMMERCIAL = (
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-3.0", "CC-BY-4.0", "CC0-1.0", "CDLA-Permissive-2.0"),
    *("ISC", "MIT", "ODC-By-1.0", "PDDL-1.0", "Unlicense"),
)


class TrackingParams(Section):
    """MLflow. No training stage depends on it: another server retrains nothing."""

    enabled: bool = setting(True, "ours", "log stages to MLflow; false: nothing is logged or registered")
    uri: str = setting(
        "sqlite:///mlflow.db", "ours", "a server's address or a local SQLite file; the environment's MLFLOW_TRACKING_URI wins over it"
    )
    artifacts: str = setting("mlartifacts", "ours", "folder of artifacts beside a local SQLite file; a server has its own place")
    experiment: str = setting("earmark", "ours", "experiment that the runs belong to", min_length=1)
    timeout_seconds: int = setting(20, "ours", "longest wait for one answer of the server", ge=1)
    wait_seconds: float = setting(
        60, "ours", "longest that a stage waits at its end until its output is published; `earmark sync` publishes what is left", ge=0
    )


class AbsoluteParams(Section):
    """Bounds for a first promotion, when there is no champion to beat; on every eval corpus."""

    eer: float = setting(0.3, "ours", "largest EER", ge=0, le=1)
    cllr: float = setting(1.0, "ours", "largest Cllr of the calibrated score, in bits; 1 is no better than no score", ge=0)


class CalibrationParams(Section):
    """Bounds of the calibrated score on every eval corpus, with or without a champion."""

    cllr: float = setting(1.0, "ours", "largest Cllr in bits", ge=0)
    loss: float = setting(0.25, "ours", "largest Cllr − minimum Cllr in bits: what better calibration would save", ge=0)


class GateParams(Section):
    """What a challenger must show."""

    resamples: int = setting(1000, "ours", "paired bootstrap resamples, clustered by speaker and source", ge=100)
    level: float = setting(0.95, "ours", "level of the intervals of challenger − champion", gt=0, lt=1)
    win: tuple[Figure, ...] = setting(
        ("eer",), "ours", "figures that must be better: their interval, mean over corpora, lies wholly beyond 0"
    )
    hold: tuple[Figure, ...] = setting(
        ("eer", "cllr", "accuracy", "auroc"),
        "ours",
        "figures that must not be worse on any corpus: refused where their interval lies wholly beyond the margin",
    )
    margins: dict[Figure, float] = setting({}, "ours", "by how much a figure that must not be worse may be; 0 where it does not stand here")
    slices: dict[str, float] = setting(
        {"codec": 0.02, "language": 0.02, "kind": 0.02, "source": 0.03},
        "ours",
        "columns of trials, and by how much the EER of none may rise",
    )
    slice_trials: int = setting(100, "ours", "trials of either key below which a slice is too small to compare", ge=1)
    first: AbsoluteParams = AbsoluteParams()
    calibration: CalibrationParams = CalibrationParams()
    robustness_eer: float | None = setting(
        0.4,
        "ours",
        "largest mean EER over degradations, and the EER above which no degradation's whole interval may lie; null: not asked",
        ge=0,
        le=1,
    )
    robustness_trials: int = setting(20, "ours", "trials of either key below which a degradation's row is not judged", ge=1)
    commercial_licences: tuple[str, ...] = setting(
        COMMERCIAL, "ours", "SPDX names of licences that allow commercial use; any other of a corpus bars the alias `commercial` alone"
    )
