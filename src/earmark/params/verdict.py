"""Settings of answers about single recordings."""

from earmark.params.section import Section, setting


class VerdictParams(Section):
    """What a verdict says, and when it warns."""

    prior_spoof: float = setting(0.5, "ours", "probability of spoof before listening, which the posterior is computed with", gt=0, lt=1)
    max_error: float = setting(
        0.05, "ours", "share of either key's dev trials that may be decided wrongly; what lies between is inconclusive", gt=0, lt=0.5
    )
    unlike_quantile: float = setting(
        0.99, "ours", "quantile of dev's distances to training embeddings beyond which a recording is unlike training", gt=0, lt=1
    )
    trace_seconds: float = setting(120, "ours", "most seconds that sources are named from, spread over what sounds spoofed", ge=10)
    short_seconds: float = setting(2.0, "ours", "a shorter recording is warned of", ge=0)
    clipped_share: float = setting(0.001, "ours", "share of clipped samples from which on a recording is warned of", gt=0, le=1)
    narrow_hz: float = setting(4000, "ours", "a recording without sound above it is warned of", ge=0, le=8000)
    silent_share: float = setting(0.6, "ours", "share of silence from which on a recording is warned of", gt=0, le=1)
