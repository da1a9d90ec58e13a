from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri

from earmark import InputError, stages
from earmark.evaluation.robustness import sample, summarise
from earmark.params import GateParams, RobustnessParams
from earmark.registry.rules import Finding
from earmark.registry.rules import robustness as judge
from earmark.storage.files import read_table

GRID = stages.ARTIFACTS["robustness"]


def trials(counts: dict[tuple[str, str, str | None], int]) -> pd.DataFrame:
    rows = [(corpus, key, source) for (corpus, key, source), count in counts.items() for _ in range(count)]
    table = pd.DataFrame(rows, columns=["corpus", "key", "source"])
    return table.assign(utterance_id=[str(number) for number in range(len(table))])


def degraded(eers: Sequence[float], seed: int) -> pd.DataFrame:
    """As many degradations of 20 bona fide and 20 spoofed trials, with these EERs on average: 5 speakers, 8 sources."""
    rng, parts = np.random.default_rng(seed), []
    bonafide = np.arange(40) < 20
    for number, rate in enumerate(eers):
        score = rng.normal(size=40) - np.where(bonafide, 1, -1) * ndtri(rate)
        part = pd.DataFrame({"cm_score": score, "llr": score, "key": np.where(bonafide, "bonafide", "spoof")})
        part["speaker"] = [f"s{row % 5}" for row in range(40)]
        part["source"] = [None if row < 20 else f"e{row % 8}" for row in range(40)]
        parts.append(part.assign(corpus="demo", degradation=f"d{number}", level="1"))
    return pd.concat(parts, ignore_index=True)


def finding(trials: pd.DataFrame, **gate: float) -> Finding:
    *_, found = judge(summarise(trials, RobustnessParams(resamples=200), 0), GateParams(**gate))  # pyright: ignore[reportArgumentType]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_40_trials_refuse_a_model_that_a_degradation_turns_round(seed):
    found = finding(degraded([*[0.15] * 7, 0.95], seed))
    assert not found.passed
    assert found.place == "demo, d7 1"
    assert found.challenger > found.low > 0.4
    assert found.missed_by == pytest.approx(found.low - 0.4)


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_40_trials_do_not_refuse_for_the_unluckiest_of_many_figures(seed):
    trials = degraded([0.35] * 16, seed)
    table = summarise(trials, RobustnessParams(resamples=200), 0)
    assert table["eer"].max() > 0.4  # and that alone would have refused it
    assert finding(trials).passed


def test_more_trials_tell_smaller_steps_beyond_the_bound():
    few = degraded([0.5], 0)
    many = pd.concat([few.assign(speaker=few["speaker"] + str(copy), source=few["source"] + str(copy)) for copy in range(25)])
    assert finding(few).passed
    assert not finding(many).passed


def test_too_few_trials_for_an_answer_are_no_answer():
    trials = degraded([0.1, 0.1], 0)
    found = finding(trials, robustness_trials=21)
    assert (found.passed, found.note) == (False, "not measured on enough trials")


def test_intervals_hold_together_so_more_degradations_widen_them():
    one, many = (summarise(degraded([0.3] * count, 0), RobustnessParams(), 0).iloc[0] for count in (1, 6))
    assert many["eer"] == one["eer"]
    assert many["eer_low"] < one["eer_low"] <= one["eer"] <= one["eer_high"] < many["eer_high"]


def test_clean_rows_have_the_scores_of_the_stage_and_others_do_not(done, protocol):
    scored, grid = (read_table(done / GRID / f"{name}.parquet") for name in ("trials", "robustness"))
    scores = read_table(done / stages.ARTIFACTS["answers"] / "scores.parquet").set_index("utterance_id")["cm_score"]
    clean = scored[scored["degradation"] == "none"].set_index("utterance_id")["cm_score"]
    assert len(clean) == 6
    pd.testing.assert_series_equal(clean, scores.loc[clean.index], atol=1e-4)
    noisy = scored[scored["degradation"] == "white noise"].set_index("utterance_id")["cm_score"]
    assert (noisy - clean).abs().min() > 1e-5
    assert set(protocol.set_index("utterance_id").loc[clean.index, "split"]) == {"eval"}
    assert list(grid["degradation"]) == ["none", "mp3", "G.711", "white noise", "resampling", "resampling", "reverberation"]
    assert (grid["trials_bonafide"] == 3).all()
    assert (grid["trials_spoof"] == 3).all()
    assert grid["eer"].between(0, 1).all()
    assert (grid["cllr"] > 0).all()
    assert (grid["eer_low"] <= grid["eer_high"]).all()


def test_it_is_the_same_twice(done, tiny, tmp_path):
    for place in ("protocol", "model"):
        path = tmp_path / stages.ARTIFACTS[place]
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(done / stages.ARTIFACTS[place])
    stages.run("robustness", tiny, tmp_path)
    for name in ("trials", "robustness"):
        assert (tmp_path / GRID / f"{name}.parquet").read_bytes() == (done / GRID / f"{name}.parquet").read_bytes()


def test_a_sample_has_both_keys_and_all_sources_alike():
    table = trials({("a", "bonafide", None): 100, ("a", "spoof", "x"): 200, ("a", "spoof", "y"): 10, ("b", "spoof", "x"): 50})
    chosen = sample(table, 40, 0)
    assert chosen["key"].value_counts().to_dict() == {"bonafide": 20, "spoof": 20}
    assert chosen["source"].value_counts().to_dict() == {"x": 10, "y": 10}
    assert set(chosen["corpus"]) == {"a"}
    pd.testing.assert_frame_equal(chosen, sample(table, 40, 0))
    assert set(sample(table, 40, 1)["utterance_id"]) != set(chosen["utterance_id"])


def test_where_one_key_is_rare_the_other_fills_up():
    table = trials({("a", "bonafide", None): 3, ("a", "spoof", "x"): 200})
    assert sample(table, 40, 0)["key"].value_counts().to_dict() == {"spoof": 37, "bonafide": 3}
    table = trials({("a", "bonafide", None): 200, ("a", "spoof", "x"): 3})
    assert sample(table, 40, 0)["key"].value_counts().to_dict() == {"bonafide": 37, "spoof": 3}


def test_one_key_alone_is_said():
    with pytest.raises(InputError, match="no corpus with trials of both keys"):
        sample(trials({("b", "spoof", "x"): 50}), 40, 0)
