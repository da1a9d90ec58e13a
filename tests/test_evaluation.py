import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from earmark import InputError
from earmark.calibration import Calibration
from earmark.evaluation import Settings, detection_report, evaluate_tables, headline
from earmark.files import read_table
from earmark.metrics.detection import AsvScores, DetectionCurve, cllr, eer

QUICK = Settings(resamples=20)


def make(corpus="one", rows=240, seed=0, gap=1.5):
    """A protocol of one third bona fide with everything that a corpus may bring, and its scores."""
    generator = np.random.default_rng(seed)
    bonafide = np.arange(rows) % 3 == 0
    protocol = pd.DataFrame(
        {
            "utterance_id": [f"{corpus}-{i}" for i in range(rows)],
            "corpus": corpus,
            "key": np.where(bonafide, "bonafide", "spoof"),
            "source": np.where(bonafide, None, [f"s{i % 4}" for i in range(rows)]),
            "attack": np.where(bonafide, None, [f"A{i % 2}" for i in range(rows)]),
            "speaker": [f"p{i % 8}" for i in range(rows)],
            "split": "eval",
            "language": np.where(np.arange(rows) < 200, "en", "de"),
            "in_domain": pd.array(np.where(bonafide, None, np.arange(rows) % 4 < 2), dtype="boolean"),
            "kind": np.where(bonafide, None, np.where(np.arange(rows) % 2, "tts", "vocoder")),
            "origin": np.where(~bonafide & (np.arange(rows) % 4 == 0), "local", "web"),
            "seconds": generator.random(rows).round(1),
        }
    )
    scores = pd.DataFrame({"utterance_id": protocol["utterance_id"], "cm_score": generator.normal(size=rows) + gap * bonafide})
    return scores, protocol


def eer_of(scores, bonafide, spoof):
    return eer(DetectionCurve.of(scores["cm_score"][bonafide], scores["cm_score"][spoof]))


def test_corpora_are_reported_apart():
    (s1, p1), (s2, p2) = make("one"), make("two", seed=1, gap=4)
    together = detection_report(pd.concat([s2, s1]), pd.concat([p1, p2]), settings=QUICK)
    alone = detection_report(s1, p1, settings=QUICK)
    assert {name.split("/")[0] for name in together.metrics} == {"one", "two"}
    assert {name: value for name, value in together.metrics.items() if name.startswith("one/")} == alone.metrics
    assert together.metrics["one/eer_low"] <= together.metrics["one/eer"] <= together.metrics["one/eer_high"]


def test_rows_by_source_attack_and_condition():
    scores, protocol = make()
    tables = detection_report(scores, protocol, settings=QUICK).tables
    bonafide = protocol["key"] == "bonafide"
    sources = tables["per_source"].set_index("value")
    assert sources["eer"]["s1"] == eer_of(scores, bonafide, protocol["source"] == "s1")
    assert list(sources["bonafide"]) == [80] * 4
    assert list(tables["per_attack"]["value"]) == ["A0", "A1"]
    conditions = tables["per_condition"].set_index(["condition", "value"])
    english = protocol["language"] == "en"
    assert conditions.loc[("language", "en"), "eer"] == eer_of(scores, bonafide & english, ~bonafide & english)
    assert conditions.loc[("kind", "tts"), "eer"] == eer_of(scores, bonafide, protocol["kind"] == "tts")
    assert conditions.loc[("kind", "tts"), "against"] == "all"
    german = conditions.loc[("language", "de")]
    assert (german["bonafide"], german["spoof"]) == (13, 27)
    assert np.isnan(german["eer"])  # 13 bona fide trials are too few
    assert set(tables["per_condition"]["condition"]) == {"language", "in_domain", "kind", "origin"}  # seconds are a measure, no condition


def test_classical_engines_are_reported_apart():
    scores, protocol = make()
    report = detection_report(scores, protocol, settings=QUICK)
    assert list(report.tables["headline"]["trials"]) == ["all", "without origin=local"]
    others = (protocol["origin"] == "web") & (protocol["key"] == "spoof")
    assert report.metrics["one/without_local/eer"] == eer_of(scores, protocol["key"] == "bonafide", others)
    assert report.metrics["one/without_local/spoof"] == others.sum()


def test_headline_is_eval_and_the_organisers_subset():
    (_, p1), (_, p2) = make("one"), make("two")
    p1["split"] = ["dev"] * 60 + ["eval"] * 180
    p2["subset"] = ["eval"] * 100 + ["progress"] * 140
    assert headline(pd.concat([p1, p2])).groupby("corpus").size().to_dict() == {"one": 180, "two": 100}
    with pytest.raises(InputError, match="no trial in split eval"):
        headline(p1.assign(split="train"))


def test_scores_of_other_splits_may_be_missing_but_headline_ones_may_not():
    scores, protocol = make()
    protocol["split"] = ["dev"] * 60 + ["eval"] * 180
    assert detection_report(scores[60:], protocol, settings=QUICK).metrics["one/bonafide"] == 60
    with pytest.raises(InputError, match="1 of 180 trials have no score"):
        detection_report(scores[61:], protocol, settings=QUICK)
    assert len(detection_report(scores[61:], protocol, settings=Settings(resamples=0, max_missing=0.01)).trials) == 179


def test_flipped_scores_warn(caplog):
    scores, protocol = make(gap=-2)
    report = detection_report(scores, protocol, settings=Settings(resamples=0))
    assert len(report.warnings) == 2
    assert "LOOK FLIPPED" in caplog.text
    assert "one/eer_low" not in report.metrics


def test_bad_corpora_are_named():
    scores, protocol = make()
    with pytest.raises(InputError, match="corpus one, all: no spoofed trial"):
        detection_report(scores, protocol.assign(key="bonafide"), settings=QUICK)
    scores.loc[3, "cm_score"] = float("nan")
    with pytest.raises(InputError, match="corpus one, all: 1 of 80 bona fide scores are NaN"):
        detection_report(scores, protocol, settings=QUICK)


def test_settings_reach_the_figures():
    scores, protocol = make()
    asv = {"one": AsvScores(np.array([1.0, 2.0]), np.array([-1.0, -2.0]), np.array([1.5, -3.0]))}
    metrics = detection_report(scores, protocol, asv, Settings(resamples=0, threshold=1e9, min_trials=50)).metrics
    assert metrics["one/act_dcf"] == pytest.approx(1.9)
    assert metrics["one/min_tdcf_legacy"] < metrics["one/min_tdcf_2021"]
    few = detection_report(scores, protocol, settings=Settings(resamples=0, min_trials=50)).tables["per_source"]
    assert few["eer"].isna().all()


def test_files_are_complete_and_the_same_bytes(tmp_path):
    (s1, p1), (s2, p2) = make("one"), make("two")
    ids = [*p1["utterance_id"], *p2["utterance_id"]]
    options = {
        "embeddings": (ids[::-1], np.random.default_rng(0).normal(size=(480, 8))),
        "history": pd.DataFrame({"epoch": [1, 2], "train/loss": [2.0, 1.0], "dev/eer": [0.3, 0.2]}),
        "settings": QUICK,
    }
    for name in ("a", "b"):
        metrics = evaluate_tables(tmp_path / name, pd.concat([s1, s2]), pd.concat([p1, p2]), **options)
    files = sorted(path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*") if path.is_file())
    drawn = [f"figures/{kind}_{corpus}.png" for kind in ("embeddings", "scores", "sources") for corpus in ("one", "two")]
    tables = ["det.csv", "headline.csv", "per_attack.csv", "per_condition.csv", "per_source.csv", "training.csv"]
    whole = ["figures/det.png", "figures/training.png", "metrics.json", "report.html", "trials.parquet", "warnings.txt"]
    assert files == sorted([*drawn, *tables, *whole])
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    assert json.loads((tmp_path / "a/metrics.json").read_text()) == metrics


def test_the_calibration_of_the_model_is_applied_and_a_row_a_trial_is_kept(tmp_path):
    scores, protocol = make()
    calibration = Calibration(2.0, -1.0, -1.0, 1.0, -3.0)
    manifest = {
        **{"calibration": asdict(calibration), "digest": "d" * 64, "params": {}, "corpora": [], "sources": []},
        **{"code": {"version": "1", "commit": None, "dvc": None}, "schema": 1, "orientation": {}, "self_test": {"passed": True}},
    }
    metrics = evaluate_tables(tmp_path / "a", scores, protocol.assign(digest="x"), manifest=manifest, settings=QUICK)
    llr, key = calibration.llr(scores["cm_score"]), (protocol["key"] == "bonafide").to_numpy()
    assert metrics["one/cllr_calibrated"] == pytest.approx(cllr(llr[key], llr[~key]))
    assert metrics["one/cllr"] == pytest.approx(cllr(scores["cm_score"][key], scores["cm_score"][~key]))
    assert metrics["one/cllr_min"] <= min(metrics["one/cllr"], metrics["one/cllr_calibrated"])
    assert metrics["one/cllr_calibrated_low"] < metrics["one/cllr_calibrated"] < metrics["one/cllr_calibrated_high"]
    trials = read_table(tmp_path / "a/trials.parquet")
    assert list(trials["utterance_id"]) == list(protocol["utterance_id"])
    assert trials["llr"].to_numpy() == pytest.approx(llr)
    assert {"key", "speaker", "source", "corpus", "digest", "language", "kind", "origin", "answer", "ood_score", "known"} <= set(trials)
    assert trials["answer"].isna().all()
