"""Tables as text."""

import os
import sys

from rich.console import Console, RenderableType

WIDE = 100_000  # columns: nothing is cut or broken


def print_wide(*tables: RenderableType) -> None:
    """Print to stdout: as wide as the terminal, or, where none sets a width, as wide as the text is."""
    sets_width = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console() if sets_width else Console(width=WIDE)
    if sets_width:
        console.print(*tables)
        return
    with console.capture() as text:
        console.print(*tables)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in text.get().removesuffix("\n").split("\n")))
