"""Settings of the corpus doctor: how grave each fault is. Where it begins: doctor/bounds.py."""

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
    history: tuple[str, ...] = setting(
        ("original_sample_rate", "original_format"),
        "ours",
        "protocol columns that tell of a file's past: cues where given",
    )
