"""Times as people read them."""


def clock(seconds: float) -> str:
    """3725.25 → 1:02:05.2."""
    whole, tenths = divmod(round(seconds * 10), 10)
    hours, rest = divmod(whole, 3600)
    return (f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}") + f".{tenths}"
