import numpy as np
import pandas as pd
import pytest

from earmark.doctor.cues import FORM, MEASURED, TOGETHER, check_cues, list_trials
from earmark.params import DoctorParams

SETTINGS = DoctorParams()


def trials(made: bool = False, split: str = "train", count: int = 60, speakers: int = 10, **spoofed) -> pd.DataFrame:
    """Trials whose cues are noise, but for those given as values of the spoofs."""
    rng = np.random.default_rng(3)
    table = pd.DataFrame({cue: rng.standard_normal(2 * count) for cue in MEASURED})
    table["key"] = ["bonafide"] * count + ["spoof"] * count
    table = table.assign(split=split, copied=made & (table["key"] == "spoof"), error=None, source="a", group=None)
    table["speaker"] = [f"s{number % speakers}" for number in range(2 * count)]
    for name, value in dict.fromkeys(FORM, "same").items():
        table[name] = value
    for name, value in spoofed.items():
        table.loc[table["key"] == "spoof", name] = value
    return table


def separating(table: pd.DataFrame, **settings) -> set[str]:
    finding, cues = check_cues(table, SETTINGS.model_copy(update=settings), seed=1)
    found = set(cues.loc[cues["separates"].astype(bool), "cue"])
    assert set(finding.culprits.get("cue", [])) == found
    return found


def test_noise_separates_nothing():
    assert separating(trials()) == set()


@pytest.mark.parametrize("value", [9.0, -9.0])
def test_a_cue_separates_whichever_key_has_more_of_it(value):
    assert separating(trials(level_dbfs=value)) == {"level_dbfs", TOGETHER}


def test_a_cue_in_the_middle_of_the_other_keys_range_is_found_together_alone():
    assert separating(trials(duration=0.0)) == {TOGETHER}


@pytest.mark.parametrize("cue", FORM)
def test_a_form_of_its_own_separates(cue):
    assert separating(trials(**{cue: "other"})) == {cue, TOGETHER}


def test_a_column_that_tells_of_the_past_is_a_cue():
    table = trials().assign(original_format="wav")
    table.loc[table["key"] == "spoof", "original_format"] = "mp3"
    assert separating(table) == {"original_format", TOGETHER}
    assert separating(table, history=()) == set()


def test_copies_are_compared_apart_and_judged_by_what_handling_could_spoil():
    assert separating(trials(made=True, bandwidth_hz=9.0, rate="other")) == set()
    assert separating(trials(made=True, trailing_silence=9.0)) == {"trailing_silence"}
    both = pd.concat([trials(), trials(made=True, level_dbfs=9.0)], ignore_index=True)
    _, cues = check_cues(both, SETTINGS, seed=1)
    assert set(cues.loc[cues["separates"].astype(bool), "trials"]) == {"train, copies"}


def test_few_speakers_make_a_wide_interval():
    widths = []
    for speakers in (60, 3):
        table = trials()
        number = np.arange(len(table)) % speakers
        table["speaker"] = [f"{key}{one}" for key, one in zip(table["key"], number, strict=True)]
        _, cues = check_cues(table.assign(level_dbfs=table["level_dbfs"] / 10 + number % 3), SETTINGS, seed=1)  # each at its own level
        row = cues.set_index("cue").loc["level_dbfs"]
        assert row["low"] <= row["auc"] <= row["high"]
        widths.append(row["high"] - row["low"])
    assert widths[1] > 1.3 * widths[0]


@pytest.mark.parametrize(
    "table", [trials(count=5), trials()[lambda rows: rows["key"] == "spoof"], trials()[:0]], ids=["few", "one key", "none"]
)
def test_too_few_trials_are_passed_over(table):
    finding, cues = check_cues(table, SETTINGS, seed=1)
    assert finding.status == "not judged"
    assert "no split has" in finding.summary
    assert cues.empty


@pytest.mark.parametrize("speaker", ["LJ", None])
def test_without_many_speakers_trials_count_alone(speaker):
    table = trials(container="MP3").assign(speaker=speaker, source=None)
    assert separating(table) == {"container", TOGETHER}
    _, cues = check_cues(table, SETTINGS, seed=1)
    noise = cues.set_index("cue").loc["level_dbfs"]
    assert noise["high"] - noise["low"] > 0.1


def test_trials_are_those_of_a_split():
    table = pd.concat([trials(), trials(split="eval", made=True)], ignore_index=True)
    assert [(part.name, part.enough) for part in list_trials(table)] == [
        ("train", 60), ("train, copies", 0), ("dev", 0), ("dev, copies", 0), ("eval", 0), ("eval, copies", 60)
    ]  # fmt: skip
