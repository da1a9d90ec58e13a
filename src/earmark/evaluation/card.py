"""Data and model card: what a model is made of, and what it was evaluated on."""

import platform
from importlib.metadata import version
from typing import Any

import pandas as pd
import yaml

from earmark.report.grids import Cell, Grid, pairs, plain

PACKAGES = ("torch", "numpy", "scikit-learn")
SPLITS = ("train", "dev", "eval")
UNKNOWN = "unknown: find out before use"


def words(value: Any) -> str:
    """A name or a number as people write it."""
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value).replace("_", " ")


def counts(trials: pd.DataFrame, corpus: str) -> str:
    """How many trials, of how many speakers and sources, and what unstated ones do to intervals."""
    rows = trials[trials["corpus"] == corpus]
    bonafide = int((rows["key"] == "bonafide").sum())
    told = [f"{bonafide:,} bona fide", f"{len(rows) - bonafide:,} spoofs"]
    for name in ("speaker", "source"):
        if number := rows[name].nunique():
            told.append(f"{number:,} {name}{'s' if number > 1 else ''}")
    if rows["speaker"].isna().all():
        told.append("no speaker stated, so that its trials pass for independent and its intervals are too narrow")
    return ", ".join(told)


def describe(manifest: dict[str, Any] | None, trials: pd.DataFrame) -> dict[str, Any]:
    """Tables of corpora, model and environment, and the settings as text; without a manifest the environment alone."""
    if manifest is None:
        return {"model": False, "facts": pairs(environment()), "params": None}
    return {
        "model": True,
        "facts": pairs([*model(manifest), *environment()]),
        "corpora": corpora(manifest["corpora"]),
        "unknown": [one["name"] for one in manifest["corpora"] if not one["licence"]],
        "params": yaml.safe_dump(manifest["params"], sort_keys=False, allow_unicode=True, width=100),
        "sources": manifest["sources"],
        "unheard": sorted({*trials.loc[trials["key"] == "spoof", "source"].dropna()} - {*manifest["sources"]}),
    }


def corpora(found: list[dict[str, Any]]) -> Grid:
    """A row a corpus: licence, trials of each split, digest."""
    head = [Cell(name, number=False) for name in ("corpus", "licence")] + [Cell(name) for name in SPLITS] + [Cell("digest", number=False)]
    rows = []
    for one in found:
        split = [Cell(plain(one["trials"].get(name, 0))) for name in SPLITS]
        licence = Cell(one["licence"] or UNKNOWN, number=False)
        rows.append([Cell(one["name"], f"read as {one['adapter']}", number=False), licence, *split, Cell(one["digest"][:12], number=False)])
    return Grid.of(head, rows)


def model(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """What identifies the model, and its calibration."""
    line, code = manifest["calibration"], manifest["code"]
    decided = f"spoof up to {line['spoof_below']:.3g}, bona fide from {line['bonafide_above']:.3g}, inconclusive between"
    return [
        ("model", f"sha256 {manifest['digest']}"),
        ("calibration", f"llr = {line['slope']:.4g} · cm_score {'+' if line['intercept'] >= 0 else '−'} {abs(line['intercept']):.4g}"),
        ("decision", f"{decided} (llr, prior ½)"),
        ("code", f"earmark {code['version']}, commit {code['commit'] or 'unknown'}"),
        ("data", _data(code["dvc"])),
    ]


def _data(known: str | dict[str, dict[str, str]] | None) -> str:
    if isinstance(known, dict):
        return ", ".join(address for addresses in known.values() for address in addresses)
    return f"DVC digest {known or 'unknown'}"


def environment() -> list[tuple[str, str]]:
    """What this evaluation ran with."""
    return [
        ("evaluated by", f"earmark {version('earmark')}"),
        ("python", platform.python_version()),
        *((name, version(name)) for name in PACKAGES),
        ("machine", f"{platform.system()}, {platform.machine()}"),
    ]
