"""One recording in, its verdict out. Shapes: W windows, M moments (half a window's hop each)."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from earmark import InputError
from earmark.audio.decode import SAMPLE_RATE
from earmark.audio.sound import Track
from earmark.ensemble import fusion as tracing
from earmark.ensemble.enrolment import Enrolled
from earmark.ensemble.fusion import Answer
from earmark.ensemble.unseen import unit
from earmark.features.recording import WHOLE, Opened, Recording, open_recordings
from earmark.metrics.odds import logit
from earmark.model import bundle
from earmark.model.calibration import Decision, probability_of_spoof
from earmark.model.system import Floats, Heard, System
from earmark.params import ComputeParams
from earmark.storage.files import file_digest
from earmark.verdict.answer import (
    ChannelOfTrack,
    Gap,
    Model,
    Nearest,
    SourceAnswer,
    SourceShare,
    SpoofedPart,
    TrackOfFile,
    Verdict,
    Window,
)
from earmark.verdict.cautions import find_cautions, gaps

UNSEEN = "unseen source"
NEAREST = 5  # training sources shown as the nearest
GRAVEST = ("spoof", "inconclusive", "bonafide")
Show = Callable[[int, int], None]


@dataclass(frozen=True)
class Judge:
    """A loaded model, ready to judge recordings; `enrolled` are sources added to it."""

    system: System
    model: Model
    enrolled: Enrolled | None = None
    prior_spoof: float | None = None  # None: that of params

    @property
    def prior(self) -> float:
        """Probability of spoof before listening."""
        return self.system.params.verdict.prior_spoof if self.prior_spoof is None else self.prior_spoof

    def check(self, path: str | Path, track: int | None = None, channel: int | None = None) -> Verdict:
        """The verdict on a file; where channels differ, that of the one that speaks most for a spoof (`judge` has all).

        `track` and `channel` count from 1; None: what sounds. Errors: InputError when it cannot be decoded, or holds nothing to judge.
        """
        return gravest(self.judge(Path(path), None, track, channel))

    def judge(self, path: Path, name: str | None = None, track: int | None = None, channel: int | None = None) -> list[Verdict]:
        """The verdicts on a file: one, or one a channel where channels differ; `track` and `channel` (from 1 on) name what to hear.

        Errors: InputError when it cannot be decoded, or holds nothing to judge.
        """
        return [verdict for _, _, verdict in self.hear(path, name or str(path), track, channel)]

    def hear(
        self, path: Path, name: str, track: int | None = None, channel: int | None = None, show: Show = lambda done, of: None
    ) -> Iterator[tuple[Recording, Heard, Verdict]]:
        """What each voice of a file sounds like, what the detector heard in it, and the verdict, one after the other."""
        params = self.system.params
        with open_recordings(path, params.decoding, params.audio, self.system.transform, track, channel) as opened:
            if not opened.recordings:
                raise InputError(f"{path}: silent from end to end")
            for recording in opened.recordings:
                heard = self.system.hear(recording, show)
                yield recording, heard, self.conclude(path, name, recording, opened, heard)

    def conclude(self, path: Path, name: str, recording: Recording, opened: Opened, heard: Heard) -> Verdict:
        """The verdict on what was heard."""
        calibration, shift, found = self.system.calibration, float(logit(self.prior)), opened.found
        llr, each = float(calibration.llr(heard.cm_score)), calibration.llr(heard.scores)
        decisions: list[Decision] = [calibration.decide(value, self.prior) for value in each]
        starts, ends = recording.seconds(heard.starts), recording.seconds(self._ends(recording, heard), end=True)
        parts = self._spoofed_parts(recording, heard, each)
        decision = calibration.decide(llr, self.prior)
        if decision == "bonafide" and parts:
            decision = "inconclusive"  # the mean over hours hides a sentence
        chosen = np.array([any(part.start < end and part.end > start for part in parts) for start, end in zip(starts, ends, strict=True)])
        traced = np.ones(len(chosen), bool) if decision == "spoof" or not chosen.any() else chosen
        distance = float(self.system.conditions.distance(heard.embedding[None])[0])
        return Verdict(
            file=name,
            sha256=file_digest(path),
            seconds=recording.heard / SAMPLE_RATE,
            start=found.clock[0][1],
            gaps=[Gap(start=start, end=end) for start, end in gaps(found)],
            lost_seconds=found.lost,
            sample_rate=found.rates[0],
            decoder=found.decoder,
            track=found.track,
            tracks=[_describe_track(track) for track in found.tracks],
            channel=recording.channel,
            channels=[ChannelOfTrack(**channel._asdict()) for channel in opened.channels],
            decision=decision,
            probability_of_spoof=float(probability_of_spoof(llr, self.prior)),
            prior_of_spoof=self.prior,
            llr=llr,
            cm_score=heard.cm_score,
            spoof_below=calibration.spoof_below + shift,
            bonafide_above=calibration.bonafide_above + shift,
            spoofed_parts=parts,
            source=self._source(recording, heard, traced),
            distance=distance,
            cautions=find_cautions(recording, opened, distance, self.system),
            timeline=[
                Window(start=start, end=end, llr=value, decision=what)
                for start, end, value, what in zip(starts, ends, each, decisions, strict=True)
            ],
            model=self.model,
        )

    def _ends(self, recording: Recording, heard: Heard) -> Floats:
        """(W,) last sample of each window that was really recorded."""
        return np.minimum(heard.starts + self.system.params.audio.clip_samples, recording.heard)

    def _spoofed_parts(self, recording: Recording, heard: Heard, llr: Floats) -> list[SpoofedPart]:
        """Stretches in which the mean llr of the windows that cover a moment is as low as bona fide recordings' hardly ever is."""
        ends = self._ends(recording, heard)
        edges = np.unique(np.concatenate([heard.starts, ends]))
        sums, counts = np.zeros(len(edges)), np.zeros(len(edges))
        for bound, sign in ((heard.starts, 1), (ends, -1)):
            np.add.at(sums, np.searchsorted(edges, bound), sign * llr)
            np.add.at(counts, np.searchsorted(edges, bound), sign)
        means = np.cumsum(sums)[:-1] / np.cumsum(counts)[:-1]
        parts: list[tuple[int, int, float]] = []
        for moment in np.flatnonzero(means - float(logit(self.prior)) <= self.system.calibration.part_below):
            start, end, least = int(edges[moment]), int(edges[moment + 1]), float(means[moment])
            if parts and parts[-1][1] == start:
                start, _, before = parts.pop()
                least = min(before, least)
            parts.append((start, end, least))
        begins, stops = (np.array([part[side] for part in parts], int) for side in (0, 1))
        spans = zip(recording.seconds(begins), recording.seconds(stops, end=True), parts, strict=True)
        return [SpoofedPart(start=start, end=end, llr=least) for start, end, (_, _, least) in spans]

    def _source(self, recording: Recording, heard: Heard, chosen: Any) -> SourceAnswer | None:
        """What the tracer says of the chosen windows."""
        stretches = self.system.stretches(heard, chosen, int(recording.index.at[WHOLE, "samples"]))
        answer, ensemble = self.system.trace(recording, stretches), self.system.ensemble
        if answer is None or ensemble is None:
            return None
        claimed = self._claimed(answer)
        unseen = bool(answer.ood_score[0] > ensemble.threshold)
        known = answer.posterior[0, :-1]
        cosines = (answer.embeddings @ unit(ensemble.bank.means).T)[0]
        return SourceAnswer(
            answer=claimed or (UNSEEN if unseen else ensemble.sources[int(answer.logits[0].argmax())]),
            unseen=unseen,
            unseen_probability=float(answer.posterior[0, -1]),
            ood_score=float(answer.ood_score[0]),
            sources=[SourceShare(source=name, probability=value) for name, value in _ranked(ensemble.sources, known)],
            conformal_set=[name for name, held in zip(ensemble.sources, answer.sets[0], strict=True) if held],
            enrolled=claimed,
            nearest=[Nearest(source=name, cosine=value) for name, value in _ranked(ensemble.sources, cosines)[:NEAREST]],
            seconds=min(sum(length for _, length in stretches), recording.heard) / SAMPLE_RATE,
        )

    def _claimed(self, answer: Answer) -> str | None:
        if self.enrolled is None or self.system.ensemble is None:
            return None
        claim = int(self.enrolled.claim(answer.embeddings, self.system.ensemble)[0])
        return self.enrolled.names[claim] if claim >= 0 else None


def gravest(verdicts: list[Verdict]) -> Verdict:
    """Of channels that differ the verdict that speaks most for a spoof."""
    return min(verdicts, key=lambda one: (GRAVEST.index(one.decision), one.llr))


def describe_model(manifest: dict[str, Any], place: str) -> Model:
    """What a verdict says of the model."""
    params = hashlib.sha256(json.dumps(manifest["params"], sort_keys=True).encode()).hexdigest()
    code = manifest["code"]
    return Model(digest=manifest["digest"], version=code["version"], commit=code["commit"], params=params, place=place)


def _describe_track(track: Track) -> TrackOfFile:
    return TrackOfFile(
        number=track.number,
        coding=track.coding,
        sample_rate=track.rate or None,
        channels=track.channels or None,
        seconds=track.seconds,
        language=track.language,
        error=track.reason,
    )


def _ranked(names: tuple[str, ...], values: Floats) -> list[tuple[str, float]]:
    """Names and values, the greatest first."""
    return [(names[row], float(values[row])) for row in np.argsort(-values, kind="stable")]


def load_judge(folder: Path, place: str, enrolled: Path | None, compute: ComputeParams, prior: float | None) -> Judge:
    """The model and the sources enrolled with its ensemble. Errors: InputError as `bundle.load`."""
    if prior is not None and not 0 < prior < 1:
        raise InputError(f"--prior {prior}: a probability between 0 and 1, without them")
    system, manifest = bundle.load(folder, compute)
    if enrolled and not enrolled.exists():
        raise InputError(f"{enrolled} does not exist: `earmark enrol` makes it")
    added = Enrolled.load(enrolled, folder / bundle.TRACER / tracing.FILE) if enrolled else None
    return Judge(system, describe_model(manifest, place), added, prior)
