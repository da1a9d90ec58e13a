"""A log filter bank of linear bands: what vocoders leave above 3 kHz is 50 to 200 Hz wide, and a CQT's bins are 430 Hz wide at 7 kHz.

Linear filters tell spoofs better than those of a mel scale (Sahidullah, Kinnunen, Hanilçi, Interspeech 2015).
Shapes: B batch, T samples, K bins of a Fourier transform, F = T // 160 + 1 frames (100 Hz).
"""

import torch
import torchaudio
from torch import Tensor, nn

from earmark.audio.decode import SAMPLE_RATE

BANDS, HOP, SIZE = 80, 160, 512
FLOOR = 1e-9  # of a band's energy, about 100 dB below that of speech at -26 dBFS


class Energies(nn.Module):
    """(..., T) → (..., K, F): torchaudio's power spectrogram without its absolute values, whose roots are only squared again."""

    def __init__(self, window: int):
        super().__init__()
        self.register_buffer("window", torch.hann_window(window), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """See the class."""
        window = self.get_buffer("window")
        found = torch.stft(waveform.flatten(0, -2) if waveform.ndim > 1 else waveform, SIZE, HOP, len(window), window, return_complex=True)
        return torch.addcmul(found.real.square(), found.imag, found.imag).reshape(*waveform.shape[:-1], *found.shape[-2:])


class LinearBands(nn.Module):
    """(B, T) → (B, 1, 80, F) natural logarithm of the energies of 80 triangular bands up to 8 kHz."""

    margin_samples = 0  # frames see nothing beyond the clip: its ends are mirrored

    def __init__(self):
        super().__init__()
        self.energies = Energies(400)
        bank = torchaudio.functional.linear_fbanks(SIZE // 2 + 1, 0.0, SAMPLE_RATE / 2, BANDS, SAMPLE_RATE)
        self.register_buffer("bank", bank.T.contiguous(), persistent=False)

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """See the class."""
        return (self.get_buffer("bank") @ self.energies(waveform)).clamp_min(FLOOR).log()[:, None]
