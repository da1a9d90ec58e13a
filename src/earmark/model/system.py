"""The whole system on single recordings: detector, calibration, tracer. What it says of a file that went through the stages is the same.

Shapes: W windows of clip length, E embedding, S known sources.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.audio.decode import SAMPLE_RATE
from earmark.ensemble.detection import Fusion
from earmark.ensemble.fusion import Answer, Ensemble
from earmark.features.clips import Clips, windows
from earmark.features.cqt import Cqt
from earmark.features.recording import Recording, Several
from earmark.model.calibration import Calibration
from earmark.model.familiarity import Conditions
from earmark.networks.compute import Processor
from earmark.networks.detector import Detector
from earmark.networks.wav2vec2 import TappedWav2Vec2
from earmark.params import Params
from earmark.scoring import front_end
from earmark.scoring.embedding import Member, outputs_of, set_up_on
from earmark.scoring.outputs import Output
from earmark.scoring.windows import score_windows

Floats = NDArray[np.float64]
Stretch = tuple[int, int]  # first sample, samples
PIECE_SECONDS = 10.0  # stretches longer than what sources are named from are cut in such pieces, and pieces drawn evenly


@dataclass(frozen=True)
class Heard:
    """What the detector says of a recording."""

    starts: NDArray[np.int64]  # (W,) first sample of each window
    scores: Floats  # (W,) cm_score of each window
    embedding: Floats  # (E,) mean over windows
    members: dict[str, Floats]  # (W,) scores by member, as they are

    @property
    def cm_score(self) -> float:
        """Mean over windows: higher = more bona fide."""
        return float(self.scores.mean())


@dataclass(frozen=True)
class System:
    """Everything that an answer needs, loaded."""

    params: Params
    detectors: dict[str, Detector]
    fusion: Fusion
    calibration: Calibration
    conditions: Conditions
    members: dict[str, Member]
    ensemble: Ensemble | None  # None: nothing traces
    encoder: TappedWav2Vec2 | None  # of the tracer's front end, where that is a wav2vec 2.0
    runner: Processor
    transform: Cqt

    def hear(self, recording: Recording, show: Callable[[int, int], None] = lambda done, of: None) -> Heard:
        """Score every window; `show` is told how many are done."""
        return self.hear_all([recording], show)[0]

    def hear_all(self, recordings: Sequence[Recording], show: Callable[[int, int], None] = lambda done, of: None) -> list[Heard]:
        """Detector's account of several recordings, whose windows share batches."""
        stored, p = Several(recordings), self.params
        items = list(windows(pd.DataFrame({"utterance_id": stored.index.index}), stored.index, p.audio, p.cqt))
        scores, embeddings, done = {}, {}, 0
        for name, network in self.detectors.items():
            found = []
            for part in score_windows(network, Clips(stored, p.audio, p.cqt, network.view), items, p.scoring.batch_size, self.runner):
                found.append(part)
                done += len(part)
                show(done, len(items) * len(self.detectors))
            values = np.concatenate(found).astype(np.float64)
            scores[name], embeddings[name] = values[:, 0], values[:, 1:]
        fused, vectors = self.fusion.fuse(scores), self.fusion.join(embeddings)
        owners, starts = (np.array(column) for column in zip(*items, strict=True))
        mine = [owners == name for name in stored.index.index]
        return [Heard(starts[one], fused[one], vectors[one].mean(0), {name: of[one] for name, of in scores.items()}) for one in mine]

    def trace(self, recording: Recording, stretches: list[Stretch]) -> Answer | None:
        """One answer for these stretches together; None without a tracer. A longer stretch weighs more."""
        if self.ensemble is None:
            return None
        cut = recording.cut({f"stretch {number}": stretch for number, stretch in enumerate(stretches)})
        names, weights = list(cut.index.index), cut.index["samples"].to_numpy(np.float64)
        with tempfile.TemporaryDirectory() as scratch:
            hidden = Path(scratch)
            front_end.precompute(self.params.front_end, self.params.compute, cut, hidden, network=self.encoder, show=False)
            p = self.params
            setup = set_up_on(cut, p.audio, p.cqt, p.front_end, p.tracer, self.runner, hidden)
            outputs = {name: _mean(outputs_of(member, setup, names), weights) for name, member in self.members.items()}
        return self.ensemble.answer(outputs)

    def stretches(self, heard: Heard, chosen: NDArray[np.bool_], samples: int) -> list[Stretch]:
        """The stretches that the (W,) chosen windows cover, of at most `verdict.trace_seconds`; all windows: the whole recording."""
        clip, most = self.params.audio.clip_samples, int(self.params.verdict.trace_seconds * SAMPLE_RATE)
        ends = np.where(np.arange(len(heard.starts)) == len(heard.starts) - 1, samples, heard.starts + clip)
        merged: list[Stretch] = []
        for start, end in zip(heard.starts[chosen].tolist(), ends[chosen].tolist(), strict=True):
            if merged and start <= sum(merged[-1]):
                start = merged.pop()[0]
            merged.append((start, end - start))
        if sum(length for _, length in merged) <= most:
            return merged
        hop = self.params.cqt.hop_samples
        size = max(int(PIECE_SECONDS * SAMPLE_RATE), clip) // hop * hop
        pieces = [(begin, min(size, length)) for first, length in merged for begin in range(first, first + max(length - size, 0) + 1, size)]
        return [pieces[row] for row in np.linspace(0, len(pieces) - 1, min(len(pieces), max(most // size, 1))).round().astype(int)]


def _mean(output: Output, weights: Floats) -> Output:
    """One row of all."""
    return Output(*(np.average(values, axis=0, weights=weights)[None] for values in (output.logits, output.embeddings)))
