"""Linear-frequency cepstral coefficients: as fine in the high bands, where vocoders betray themselves, as in the low ones.

Shapes: T samples, F = T // 160 + 1 frames (100 Hz), 60 = 20 coefficients with deltas and double deltas.
"""

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from earmark.audio.decode import SAMPLE_RATE
from earmark.features.shards import Stored

HOP, WIDTH = 160, 60
SPREAD = (30.0, 4.0, 1.5)  # about the standard deviations of coefficients, deltas and double deltas of speech
TRANSFORM = torchaudio.transforms.LFCC(SAMPLE_RATE, n_filter=70, n_lfcc=20, speckwargs={"n_fft": 512, "win_length": 320, "hop_length": HOP})


def lfcc(waveform: NDArray) -> NDArray:
    """(T,) → (F, 60)."""
    static = TRANSFORM(torch.from_numpy(waveform))
    delta = torchaudio.functional.compute_deltas(static)
    return torch.cat((static, delta, torchaudio.functional.compute_deltas(delta))).T.numpy()


class LfccClips(Dataset):
    """LFCC of clips of the stored waveforms: item (utterance_id, first sample, label) → ((F, 60) of about unit spread, label)."""

    width = WIDTH

    def __init__(self, stored: Stored, samples: int):
        self.stored, self.samples = stored, samples
        self.spread = np.repeat(np.array(SPREAD, np.float32), WIDTH // len(SPREAD))

    def __getitem__(self, item: tuple[str, int, int]) -> tuple[Tensor, int]:
        """See the class."""
        utterance, start, label = item
        return torch.from_numpy(lfcc(self.stored.waveform(utterance, start, self.samples)) / self.spread), label
