"""Settings of the evaluation stage."""

from earmark.params.section import Section, setting


class EvaluationParams(Section):
    """Tables and intervals."""

    resamples: int = setting(1000, "ours", "bootstrap resamples, clustered by speaker and source", ge=100)
    asv_scores: dict[str, str] = setting({}, "ours", "organisers' speaker verification scores by corpus name: adds min t-DCF")
    min_trials: int = setting(20, "ours", "trials of either key below which a row shows counts alone", ge=1)
