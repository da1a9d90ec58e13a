"""Linear-frequency cepstral coefficients: as fine in the high bands, where vocoders betray themselves, as in the low ones.

Shapes: B batch, T samples, F = T // 160 + 1 frames (100 Hz), 60 = 20 coefficients with deltas and double deltas.
"""

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor, nn

from earmark.audio.decode import SAMPLE_RATE
from earmark.features.linear import Energies

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


class Lfcc(nn.Module):
    """(B, T) → (B, 1, 60, F) LFCC as they are; on the CPU alone."""

    margin_samples = 0  # frames see nothing beyond the clip: its ends are mirrored

    def forward(self, waveform: Tensor) -> Tensor:
        """See the class."""
        found = torch.from_numpy(lfcc(waveform.cpu().numpy())).to(waveform.device)
        return found.transpose(1, 2)[:, None]
