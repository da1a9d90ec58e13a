"""Views of a clip: what networks read beside the waveform.

Shapes: B batch, T samples, C channels, K bins and F frames: of a CQT 2 × `cqt.bins` at 50 Hz, of linear bands 1 × 80 and of LFCC 1 × 60 at
100 Hz.
"""

import numpy as np
import torch
from torch import Tensor

from earmark import InputError
from earmark.features.cqt import Cqt, channels
from earmark.features.lfcc import SPREAD, WIDTH, Lfcc
from earmark.features.linear import BANDS, LinearBands
from earmark.params import CqtParams, View

Transform = Cqt | LinearBands | Lfcc


def transform(view: View, cqt: CqtParams) -> Transform:
    """(B, T) → (B, C, K, F) of a view. Errors: InputError for the front end, which is no transform."""
    if view == "front_end":
        raise InputError("the front end is computed beforehand: no clip is transformed to it")
    return {"cqt": lambda: Cqt(cqt), "linear": LinearBands, "lfcc": Lfcc}[view]()


def bins(view: View, cqt: CqtParams) -> int:
    """K of a view."""
    return {"cqt": cqt.bins, "linear": BANDS, "lfcc": WIDTH}[view]


def standardised(view: View, image: Tensor) -> Tensor:
    """(B, C, K, F) → (B, 1, K, F): log-magnitudes of mean 0 and deviation 1 a clip; LFCC over what is usual in speech."""
    if view != "lfcc":
        return channels(image, "none")
    usual = torch.from_numpy(np.repeat(np.array(SPREAD, np.float32), WIDTH // len(SPREAD))).to(image.device)
    return image / usual[:, None]
