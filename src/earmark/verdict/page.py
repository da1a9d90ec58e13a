"""The evidence report: one recording's verdict as a page for people. Shapes: W windows, K bins, F frames, M moments, N bands."""

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from earmark.audio.decode import SAMPLE_RATE
from earmark.features.recording import Recording
from earmark.model.calibration import NAMES
from earmark.report.clock import clock
from earmark.report.figures import BLUE, GREY, PALE, RED, STYLE
from earmark.report.pages import embed, render
from earmark.verdict.answer import Verdict
from earmark.verdict.evidence import Evidence

TONES = {"bonafide": "good", "spoof": "bad", "inconclusive": "unsure"}
COLUMNS = 1400  # of the waveform's envelope


def evidence_page(verdict: Verdict, recording: Recording, evidence: Evidence, coverage: float) -> str:
    """The whole page."""
    return render(
        "earmark.verdict",
        verdict=verdict,
        names=NAMES,
        tones=TONES,
        clock=clock,
        summary=_summarise(verdict),
        timeline=embed(draw_timeline(verdict, recording)),
        window=len(evidence.waveform) / SAMPLE_RATE,
        tracing=_trace(verdict) if verdict.source else "",
        coverage=f"{coverage:.0%}",
        decided=_weigh(evidence),
        spectrum=embed(draw_evidence(evidence)),
        start=float(recording.seconds(np.array([evidence.start]))[0]),
        facts=_facts(verdict),
    )


def _summarise(verdict: Verdict) -> str:
    whose, times = f" of channel {verdict.channel}" if verdict.channel else " of audio", np.exp(min(abs(verdict.llr), 50.0))
    likelier, other = ("bona fide speech", "a spoof") if verdict.llr > 0 else ("a spoof", "bona fide speech")
    heard = f"What the detector heard is {times:,.1f} times likelier from {likelier} than from {other} (llr {verdict.llr:+.2f})."
    text = f"{clock(verdict.seconds)}{whose}. {heard}"
    if verdict.decision == "inconclusive" and verdict.spoofed_parts and verdict.llr >= verdict.bonafide_above:
        return text + " The whole sounds bona fide, but parts of it sound spoofed."
    if verdict.decision == "inconclusive":
        return text + " On development data such values come from both: nothing is decided."
    return text


def _trace(verdict: Verdict) -> str:
    source = verdict.source
    assert source is not None
    said = f"Said from {source.seconds:.0f} s of it."
    if source.enrolled:
        return f"The enrolled source {source.enrolled} claims it. {said}"
    if source.unseen:
        return f"It sounds like no source that the model knows. {said}"
    return f"Likeliest of the known sources: {source.answer}. {said}"


def _weigh(evidence: Evidence) -> str:
    if len(evidence.by_member) == 1:
        return f"This window's score is {evidence.score:+.2f}."
    ranked = sorted(evidence.by_member.items(), key=lambda item: -abs(item[1]))
    said = ", ".join(f"{name} {share:+.2f}" for name, share in ranked)
    return f"The members add to this window's score of {evidence.score:+.2f}: {said}; below 0 speaks for a spoof."


def _facts(verdict: Verdict) -> list[tuple[str, Any]]:
    model = verdict.model
    return [
        ("cm_score", f"{verdict.cm_score:.4f}"),
        ("llr", f"{verdict.llr:.4f} (spoof up to {verdict.spoof_below:.4f}, bona fide from {verdict.bonafide_above:.4f})"),
        ("distance to training", f"{verdict.distance:.2f}"),
        ("file", f"sha256 {verdict.sha256}, {verdict.sample_rate} Hz, {verdict.decoder}"),
        *_heard(verdict),
        ("model", f"sha256 {model.digest}, from {model.place}"),
        ("settings", f"sha256 {model.params}"),
        ("code", f"earmark {model.version}, commit {model.commit or 'unknown'}"),
    ]


def _heard(verdict: Verdict) -> Iterator[tuple[str, Any]]:
    """Tracks, channels and what was lost, where there is more than one plain channel to speak of."""
    for track in verdict.tracks if len(verdict.tracks) > 1 else ():
        form = f"{track.coding}, {track.sample_rate} Hz, {track.channels} channels" if track.error is None else track.error
        yield f"track {track.number}", form + (": judged" if track.number == verdict.track else "")
    for channel in verdict.channels if len(verdict.channels) > 1 else ():
        level = "silent" if channel.level_dbfs is None else f"{channel.level_dbfs:.1f} dBFS"
        likeness = "" if channel.correlation is None else f", correlation {channel.correlation:.2f} where it is least like the loudest"
        yield f"channel {channel.number}", level + likeness + (": judged" if channel.number == verdict.channel else "")
    if verdict.lost_seconds:
        yield "damaged", f"{verdict.lost_seconds:.2f} s"


@mpl.rc_context(STYLE)
def draw_timeline(verdict: Verdict, recording: Recording) -> Figure:
    """Envelope of the waveform and, below it, the llr of every moment; spoofed parts are shaded."""
    figure, end = Figure(figsize=(11, 4.2), layout="constrained"), float(recording.seconds(np.array([recording.heard]), end=True)[0])
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.3])
    samples = recording.raw[: recording.heard]
    step = max(len(samples) // COLUMNS, 1)
    columns = [samples[first : first + step] for first in range(0, len(samples) - step + 1, step)]
    time = recording.seconds(np.arange(len(columns)) * step)
    upper.fill_between(time, [c.min() for c in columns], [c.max() for c in columns], color=GREY, lw=0)
    for gap in verdict.gaps:
        for axes in (upper, lower):
            axes.axvspan(gap.start, gap.end, color="white", hatch="//", ec=PALE, lw=0, zorder=3)
    upper.set(yticks=[], ylabel="waveform", xlim=(verdict.start, end))
    starts, llr = ([getattr(window, name) for window in verdict.timeline] for name in ("start", "llr"))
    centres = [(window.start + window.end) / 2 for window in verdict.timeline]
    lower.axhspan(verdict.spoof_below, verdict.bonafide_above, color=PALE, alpha=0.5, lw=0)
    lower.axhline(0, color=GREY, lw=0.8)
    lower.step([verdict.start, *centres, end], [llr[0], *llr, llr[-1]], where="mid", color=BLUE, lw=1.4)
    if len(starts) < 200:
        lower.plot(centres, llr, "o", ms=3.5, color=BLUE)
    lower.set(ylabel="llr", xlabel="seconds")
    for part in verdict.spoofed_parts:
        for axes in (upper, lower):
            axes.axvspan(part.start, part.end, color=RED, alpha=0.22, lw=0)
    return figure


@mpl.rc_context({**STYLE, "axes.grid": False})
def draw_evidence(evidence: Evidence) -> Figure:
    """Level, and the losses over time and over bands, of one window on one time axis."""
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    level, by_band, by_time = figure.subplots(3, 1, sharex=True, height_ratios=[2, 2, 0.9])
    seconds, values = len(evidence.waveform) / SAMPLE_RATE, evidence.spectrogram
    place = {"aspect": "auto", "origin": "lower", "extent": (0, seconds, 0, SAMPLE_RATE / 2000), "interpolation": "nearest"}
    low, high = np.percentile(values, [1, 99.5])
    level.imshow(values, cmap="magma", vmin=low, vmax=high, **place)
    top = max(np.abs(evidence.by_band).max(), 1e-12)
    by_band.imshow(evidence.by_band, cmap="RdBu", vmin=-top, vmax=top, **place)
    moments = len(evidence.by_time)
    colours = np.where(evidence.by_time > 0, BLUE, RED)
    by_time.bar((np.arange(moments) + 0.5) * seconds / moments, evidence.by_time, width=0.9 * seconds / moments, color=colours)
    by_time.axhline(0, color=GREY, lw=0.8)
    level.set(ylabel="level\nkHz")
    by_band.set(ylabel="loss by band\nkHz")
    by_time.set(ylabel="loss", xlabel="seconds in the window")
    return figure
