"""What the benchmarks share: the shortest of some runs, rows and one table."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.table import Table


def seconds(action: Callable[[], object], repeats: int = 5) -> float:
    """Shortest of some runs: the machine's other work only ever adds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def row(name: str, ours: float, peer: float, *, least: float | None = None, longest: float | None = None) -> dict[str, Any]:
    """A measurement; its bar is the `least` ratio peer / ours, or the `longest` time of ours in seconds."""
    met = (least is None or peer / ours >= least) and (longest is None or ours <= longest)
    bar = f"≥ {least:g}×" if least is not None else f"≤ {longest:g} s" if longest is not None else ""
    return {"name": name, "ours": ours, "peer": peer, "bar": bar, "met": met}


def show(rows: Iterable[dict[str, Any]]) -> None:
    """Print rows as one table."""
    table = Table("measurement", "ours, s", "peer, s", "peer / ours", "bar", "met")
    for found in rows:
        peer, ratio = (f"{found['peer']:.3f}", f"{found['peer'] / found['ours']:.1f}×") if found["peer"] == found["peer"] else ("–", "–")
        met = ("yes" if found["met"] else "NO") if found["bar"] else ""
        table.add_row(found["name"], f"{found['ours']:.3f}", peer, ratio, found["bar"], met)
    Console(width=140).print(table)
