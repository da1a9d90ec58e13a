"""The corpus doctor's report as one HTML page that needs nothing else."""

from typing import Any

from earmark.report import pages

NAMES = {
    "unreadable": "Unreadable files",
    "silent": "Silent files",
    "clipped": "Clipped files",
    "label_conflicts": "Label conflicts",
    "duplicates": "Duplicates",
    "near_duplicates": "Near-duplicates",
    "speaker_leak": "Speakers in two splits",
    "group_leak": "Groups in two splits",
    "file_leak": "Recordings in two splits",
    "near_duplicate_leak": "Near-duplicates in two splits",
    "cheap_cues": "Cheap cues",
}
CUES = {
    "level_dbfs": ("level", "dBFS", 1),
    "peak_dbfs": ("peak", "dBFS", 1),
    "leading_silence": ("leading silence", "s", 2),
    "trailing_silence": ("trailing silence", "s", 2),
    "silence_share": ("share of silence", "", 2),
    "duration": ("duration", "s", 2),
    "bandwidth_hz": ("bandwidth", "Hz", 0),
    "rate": ("sample rate of the file", "", 0),
    "container": ("container", "", 0),
    "coding": ("coding", "", 0),
    "together": ("all together", "", 0),
}
VERDICTS = {"pass": "Nothing found.", "warn": "Fit to run, with warnings.", "fail": "Not fit to run: mend what failed."}
TONES = {"pass": "good", "warn": "unsure", "fail": "bad", "off": "off", "not judged": "off"}
WIDTH = 160  # of an AUC's axis, from 0 to 1


def render(content: dict[str, Any]) -> str:
    """HTML of a report's plain values (`Diagnosis.to_json`)."""
    trials: dict[str, list[dict[str, Any]]] = {}
    for row in content["cues"]:
        trials.setdefault(row["trials"], []).append(_describe(row))
    shown = {"names": NAMES, "tones": TONES, "verdict": VERDICTS[content["status"]], "trials": trials, "width": WIDTH}
    return pages.render("earmark.doctor", report=content, show_cell=show_cell, **shown)


def _describe(row: dict[str, Any]) -> dict[str, Any]:
    """A cue's row with its name and its medians as text."""
    name, unit, places = CUES.get(row["cue"], (row["cue"].replace("_", " "), "", 0))
    medians = [f"{row[key]:.{places}f} {unit}".strip() if row[key] is not None else "" for key in ("median_bonafide", "median_spoof")]
    return row | {"name": name, "medians": medians}


def show_cell(value: Any) -> str:
    """A culprit's cell: short numbers, nothing for what is missing."""
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
