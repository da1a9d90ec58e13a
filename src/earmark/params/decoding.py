"""Settings of how files are decoded."""

from earmark.params.section import Section, setting


class DecodingParams(Section):
    """What a decoder may use, and how much of a recording it may lose."""

    memory_mb: int = setting(1024, "ours", "address space of the process that decodes; a file that needs more is refused", ge=384)
    stall_seconds: float = setting(20, "ours", "longest wait for the next second of sound; then the decoder is stopped", gt=0)
    max_hours: float = setting(48, "ours", "a longer recording is refused", gt=0)
    max_lost_share: float = setting(
        0.1, "ours", "share of a recording that may be damaged; what is lost is said in its verdict", ge=0, lt=1
    )
    channel_correlation: float = setting(
        0.8, "ours", "channels whose correlation falls below it in any 4 s are judged apart; others as their mean", ge=0, le=1
    )
