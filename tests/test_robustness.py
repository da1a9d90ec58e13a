import pandas as pd
import pytest

from earmark import InputError, stages
from earmark.evaluation import read_scores
from earmark.files import read_table
from earmark.robustness import sample

GRID = stages.ARTIFACTS["robustness"]


def trials(counts: dict[tuple[str, str, str | None], int]) -> pd.DataFrame:
    rows = [(corpus, key, source) for (corpus, key, source), count in counts.items() for _ in range(count)]
    table = pd.DataFrame(rows, columns=["corpus", "key", "source"])
    return table.assign(utterance_id=[str(number) for number in range(len(table))])


def test_clean_rows_have_the_scores_of_the_stage_and_others_do_not(done, protocol):
    scored, grid = (read_table(done / GRID / f"{name}.parquet") for name in ("trials", "robustness"))
    scores = read_scores(done / stages.ARTIFACTS["scores"]).set_index("utterance_id")["cm_score"]
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
