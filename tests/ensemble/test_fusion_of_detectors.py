import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from earmark import InputError, stages
from earmark.ensemble.detection import DETECTORS, FILE, SCORES, Fusion
from earmark.scoring.windows import read_scores
from earmark.storage.files import read_metadata, read_table

RNG = np.random.default_rng(0)
BONAFIDE = np.arange(400) < 120
TRUTH = np.where(BONAFIDE, 1.0, -1.0)
GOOD, FAIR, NOISE, WRONG = (strength * TRUTH + RNG.normal(size=400) for strength in (1.5, 1.0, 0.0, -0.7))
EMBEDDINGS = RNG.normal(size=(400, 3))


def fit(**scores: np.ndarray) -> Fusion:
    return Fusion.fit(scores, dict.fromkeys(scores, EMBEDDINGS), BONAFIDE)


def test_weights_are_those_of_a_balanced_logistic_regression():
    found = fit(good=5 * GOOD + 3, fair=FAIR)
    columns = np.stack([(one - one.mean()) / one.std() for one in (GOOD, FAIR)], axis=1)
    peer = LogisticRegression(class_weight="balanced", tol=1e-8).fit(columns, BONAFIDE)
    np.testing.assert_allclose(list(found.weights.values()), peer.coef_[0], rtol=1e-4)


def test_a_member_that_ranks_the_wrong_way_round_counts_for_nothing():
    found = fit(good=GOOD, wrong=WRONG)
    assert found.weights["wrong"] == 0
    assert found.weights["good"] > 0.5
    np.testing.assert_allclose(fit(good=GOOD, noise=NOISE).weights["noise"], 0, atol=0.3)


def test_fused_members_are_better_than_each(tmp_path):
    found = fit(good=GOOD, fair=FAIR)
    fused = found.fuse({"good": GOOD, "fair": FAIR})

    def separation(scores: np.ndarray) -> float:
        one, other = scores[BONAFIDE], scores[~BONAFIDE]
        return (one.mean() - other.mean()) / np.sqrt((one.var() + other.var()) / 2)

    assert separation(fused) > max(separation(GOOD), separation(FAIR))
    found.save(tmp_path / FILE)
    again, parts = Fusion.load(tmp_path / FILE), {"good": EMBEDDINGS, "fair": 2 * EMBEDDINGS}
    assert again == found
    np.testing.assert_array_equal(again.join(parts), found.join(parts))
    shares = found.shares({"good": GOOD, "fair": FAIR})
    np.testing.assert_allclose(sum(shares.values()), fused)


def test_one_member_alone_keeps_its_score():
    np.testing.assert_array_equal(fit(good=GOOD).fuse({"good": GOOD}), GOOD)


def test_embeddings_stand_side_by_side_alike_in_length():
    found = Fusion.fit({"a": GOOD, "b": FAIR}, {"a": 100 * EMBEDDINGS, "b": EMBEDDINGS[:, :2]}, BONAFIDE)
    joined = found.join({"a": 100 * EMBEDDINGS, "b": EMBEDDINGS[:, :2]})
    assert joined.shape == (400, 5)
    assert [np.square(part).sum(1).mean() for part in (joined[:, :3], joined[:, 3:])] == pytest.approx([1, 1])


def test_what_cannot_be_fused_is_said():
    with pytest.raises(InputError, match="fair: scores of dev are NaN or infinite"):
        fit(good=GOOD, fair=np.where(BONAFIDE, np.nan, FAIR))
    with pytest.raises(InputError, match="dev has trials of one key alone"):
        Fusion.fit({"good": GOOD[:5]}, {"good": EMBEDDINGS[:5]}, BONAFIDE[:5])
    with pytest.raises(InputError, match="member fair has no scores: run score_detector"):
        fit(good=GOOD, fair=FAIR).fuse({"good": GOOD})


def test_the_stage_writes_fused_scores_and_those_of_every_part(done, tiny):
    folder = done / stages.ARTIFACTS["answers"]
    scored, fused = read_scores(done / stages.ARTIFACTS["scores"]), read_table(folder / SCORES)
    assert list(fused["utterance_id"]) == scored.utterances
    windowed = Fusion.load(folder / FILE).fuse(scored.scores)
    for row in (0, len(fused) - 1):
        own = windowed[scored.owners == row]
        assert fused.at[row, "cm_score"] == pytest.approx(own.mean())
        assert (fused.at[row, "lowest"], fused.at[row, "windows"]) == (pytest.approx(own.min()), len(own))
    systems = read_table(folder / DETECTORS)
    names = list(tiny.detector.members)
    assert list(dict.fromkeys(systems["system"])) == [*names, *(f"without {name}" for name in names)]
    assert (systems["system"].value_counts() == len(fused)).all()
    assert read_metadata(folder / SCORES)["orientation"] == "cm_score: higher = more bona fide"


def test_the_fusion_is_fitted_on_dev_alone(done, protocol):
    folder = done / stages.ARTIFACTS["answers"]
    scored = read_scores(done / stages.ARTIFACTS["scores"])
    rows = protocol.set_index("utterance_id").loc[scored.utterances]
    dev = (rows["split"] == "dev").to_numpy()
    counts = np.bincount(scored.owners)
    means = {name: (np.bincount(scored.owners, values) / counts)[dev] for name, values in scored.scores.items()}
    embeddings = {name: values[dev] for name, values in scored.embeddings.items()}
    assert Fusion.fit(means, embeddings, (rows["key"] == "bonafide").to_numpy()[dev]) == Fusion.load(folder / FILE)


def test_scores_of_other_members_are_refused(done, change, tmp_path):
    workspace = Path(shutil.copytree(done, tmp_path / "run"))
    with pytest.raises(InputError, match=r"scores are of wavespec, linear, lfcc_gmm, params have wavespec, lfcc_gmm: run score_detector"):
        stages.run("fit_ensemble", change(detector={"members": {"linear": None}}), workspace)


def test_the_report_compares_the_members_with_their_fusion(done, tiny):
    table = pd.read_csv(done / stages.ARTIFACTS["evaluation"] / "detectors.csv")
    assert list(table["system"])[:4] == ["all fused", *tiny.detector.members]
    assert table.set_index("system").at["all fused", "more"] == 0
    assert set(table["corpus"]) == {"tiny"}
    page = (done / stages.ARTIFACTS["evaluation"] / "report.html").read_text()
    assert "without lfcc_gmm" in page
