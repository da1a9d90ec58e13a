import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.corpora.splits import assign_splits

FRACTIONS = {"train": 0.6, "dev": 0.2, "eval": 0.2}
NAMES = st.sampled_from([None, "a", "b", "c", "d", "e"])
ROWS = st.lists(st.tuples(st.sampled_from(["bonafide", "spoof"]), NAMES, NAMES), min_size=1, max_size=30)


def build(rows, splits=None) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["key", "speaker", "group"], dtype="str")
    table["utterance_id"] = [f"u{n}" for n in range(len(rows))]
    table["split"] = pd.Series(splits or [None] * len(rows), dtype="str")
    return table


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 9), order=st.randoms(use_true_random=False))
def test_speakers_and_groups_stay_together_whatever_the_order(rows, seed, order):
    table = build(rows)
    table["split"] = assign_splits(table, FRACTIONS, seed)
    assert table["split"].isin(list(FRACTIONS)).all()
    for column in ("speaker", "group"):
        assert (table.dropna(subset=[column]).groupby(column)["split"].nunique() <= 1).all()
    shuffled = build(rows).sample(frac=1, random_state=order.randrange(1000))
    again = shuffled.assign(split=assign_splits(shuffled, FRACTIONS, seed)).sort_index()
    assert again["split"].tolist() == table["split"].tolist()


def test_each_split_gets_both_keys_and_its_share():
    table = build([(key, f"s{n % 20}", None) for n in range(200) for key in ("bonafide", "spoof")])
    table["split"] = assign_splits(table, FRACTIONS, 0)
    counts = table.groupby(["split", "key"]).size()
    assert counts["train"].tolist() == [120, 120]
    assert counts["dev"].tolist() == counts["eval"].tolist() == [40, 40]


def test_rare_bona_fide_reaches_every_split():
    table = build([("spoof", None, None)] * 300 + [("bonafide", None, None)] * 5)
    table["split"] = assign_splits(table, FRACTIONS, 3)
    assert table[table["key"] == "bonafide"]["split"].nunique() == 3


def test_another_seed_draws_other_splits():
    table = build([("spoof", f"s{n}", None) for n in range(40)])
    assert assign_splits(table, FRACTIONS, 0).tolist() != assign_splits(table, FRACTIONS, 1).tolist()


def test_rows_tied_to_given_splits_join_them():
    table = build([("spoof", "a", None), ("spoof", "a", "g"), ("spoof", None, "g"), ("spoof", "z", None)], ["eval", None, None, None])
    assert assign_splits(table, FRACTIONS, 0).tolist()[:3] == ["eval"] * 3


def test_a_share_of_nothing_gets_nothing():
    table = build([("spoof", None, None)] * 10)
    assert set(assign_splits(table, {"train": 0.5, "dev": 0.5, "eval": 0.0}, 0)) == {"train", "dev"}
