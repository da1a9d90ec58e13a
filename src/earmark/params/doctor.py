"""Settings of the corpus doctor: how grave each fault is, and where it begins."""

from typing import Literal

from earmark.params.section import Section, setting

Severity = Literal["error", "warn", "off"]


class DoctorParams(Section):
    """Checks of the corpora before anything is computed; a failed check of severity error stops the pipeline."""

    unreadable: Severity = setting("error", "ours", "files that cannot be decoded; a warning up to trials.max_unreadable of a corpus")
    silent: Severity = setting("error", "ours", "files that say nothing; a warning up to trials.max_unreadable of a corpus")
    clipped: Severity = setting("warn", "ours", "files with samples cut off at full scale")
    label_conflicts: Severity = setting("error", "ours", "one recording, or one utterance_id, under two keys or sources")
    duplicates: Severity = setting("warn", "ours", "one recording several times in a split")
    near_duplicates: Severity = setting("warn", "ours", "one recording several times in a split: re-encoded, at another level, or cut")
    speaker_leak: Severity = setting("error", "ours", "a speaker of a corpus in two splits")
    group_leak: Severity = setting("error", "ours", "a group of a corpus (a text, a session) in two splits")
    file_leak: Severity = setting("error", "ours", "one recording in two splits")
    near_duplicate_leak: Severity = setting("error", "ours", "one recording in two splits: re-encoded, at another level, or cut")
    cheap_cues: Severity = setting("warn", "ours", "level, silence, duration, band, file form: what tells keys apart unheard")
    silent_dbfs: float = setting(-60.0, "ours", "level of the loudest twentieth of frames below which a file is silent", ge=-120, le=-20)
    clipped_share: float = setting(0.001, "ours", "share of samples in runs at full scale above which a file is clipped", ge=0, lt=1)
    silence_db: float = setting(40.0, "ours", "how far below the loudest twentieth of frames a frame is silence", ge=10, le=80)
    min_correlation: float = setting(0.85, "ours", "correlation of waveforms from which one is the other, re-encoded", ge=0.5, le=1)
    min_overlap: float = setting(0.8, "ours", "share of the shorter recording that must lie in the longer one", gt=0, le=1)
    max_auc: float = setting(0.7, "ours", "AUC from which a cheap cue separates, when its interval excludes chance", gt=0.5, le=1)
    confidence: float = setting(0.99, "ours", "confidence level of the AUC's interval: many cues are asked", ge=0.5, lt=1)
    resamples: int = setting(400, "ours", "bootstrap resamples of an AUC, clustered by speaker and source", ge=100)
    min_trials: int = setting(20, "ours", "trials of either key below which no AUC is given", ge=2)
    history: tuple[str, ...] = setting(
        ("original_sample_rate", "original_format"),
        "ours",
        "protocol columns that tell of a file's past: cues where given",
    )
