"""All benchmarks, one table: `make bench`. Ratios are against named peers in this very run; nothing here is a test."""

import sys
from pathlib import Path

from rich.console import Console

import download
import dvc_push
import features
import gpu
import metrics
import scoring
import steps
import tracing
from timing import show


def main() -> None:
    console, rows = Console(), []
    for module in (metrics, features, scoring, tracing, download, dvc_push, steps, gpu):
        with console.status(module.__name__):
            rows += module.rows()
    with console.status("memory"):
        line = features.memory()
    show(rows)
    console.print(line)
    if not gpu.available():
        console.print("No CUDA GPU is seen: the paper preset's training step and scoring on a GPU were not measured.")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the components
    main()
