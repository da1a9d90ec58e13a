"""Where a fault of a corpus begins: this project's own choice, tried on real and synthetic corpora."""

from typing import NamedTuple


class Bounds(NamedTuple):
    """Bounds of all checks."""

    silent_dbfs: float = -60.0  # level of the loudest twentieth of frames below which a file is silent
    clipped_share: float = 0.001  # share of samples in runs at full scale above which a file is clipped
    silence_db: float = 40.0  # how far below the loudest twentieth of frames a frame is silence
    min_correlation: float = 0.85  # correlation of waveforms from which one is the other, re-encoded
    min_overlap: float = 0.8  # share of the shorter recording that must lie in the longer one
    max_auc: float = 0.7  # AUC from which a cheap cue separates, when its interval excludes chance
    confidence: float = 0.99  # level of the AUC's interval: many cues are asked
    resamples: int = 400  # bootstrap resamples of an AUC, clustered by speaker and source
    min_trials: int = 20  # trials of either key below which no AUC is given


BOUNDS = Bounds()
