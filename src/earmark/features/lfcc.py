"""Linear-frequency cepstral coefficients: as fine in the high bands, where vocoders betray themselves, as in the low ones.

Shapes: B batch, T samples, F = T // 160 + 1 frames (100 Hz), 60 = 20 coefficients with deltas and double deltas.
"""

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from earmark.audio.decode import SAMPLE_RATE
from earmark.features.linear import Energies
from earmark.features.shards import Utterances

WIDTH = 60
SPREAD = (30.0, 4.0, 1.5)  # about the standard deviations of coefficients, deltas and double deltas of speech
TRANSFORM = torchaudio.transforms.LFCC(SAMPLE_RATE, n_filter=70, n_lfcc=20, speckwargs={"n_fft": 512})
TRANSFORM.Spectrogram = Energies(320)


@torch.no_grad()
def lfcc(waveform: NDArray) -> NDArray:
    """(T,) → (F, 60), or (B, T) → (B, F, 60)."""
    batch = torch.from_numpy(np.atleast_2d(waveform))
    static = TRANSFORM(batch[:, None])[:, 0]  # as channels, since levels are floored below the loudest of a whole batch otherwise
    delta = torchaudio.functional.compute_deltas(static)
    found = torch.cat((static, delta, torchaudio.functional.compute_deltas(delta)), dim=1).transpose(1, 2)
    return found.reshape(*waveform.shape[:-1], *found.shape[1:]).numpy()


class LfccClips(Dataset):
    """LFCC of clips of the stored waveforms: item (utterance_id, first sample, label) → ((F, 60) of about unit spread, label)."""

    width = WIDTH

    def __init__(self, stored: Utterances, samples: int):
        self.stored, self.samples = stored, samples
        self.spread = np.repeat(np.array(SPREAD, np.float32), WIDTH // len(SPREAD))

    def __getitem__(self, item: tuple[str, int, int]) -> tuple[Tensor, int]:
        """See the class."""
        return self.__getitems__([item])[0]

    def __getitems__(self, items: list[tuple[str, int, int]]) -> list[tuple[Tensor, int]]:
        """A batch, as torch's loader asks for one: of small products one by one, threads cost more than they save."""
        found = lfcc(np.stack([self.stored.waveform(utterance, start, self.samples) for utterance, start, _ in items])) / self.spread
        return [(features, label) for features, (_, _, label) in zip(torch.from_numpy(found), items, strict=True)]
