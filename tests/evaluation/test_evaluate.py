import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from earmark import InputError
from earmark.corpora.protocol import headline
from earmark.evaluation.detection import Settings, detection_report
from earmark.evaluation.evaluate import evaluate_tables
from earmark.evaluation.trial_table import trial_table
from earmark.metrics import detection
from earmark.metrics.detection import AsvScores, DetectionCurve, eer
from earmark.model.calibration import Calibration
from earmark.storage.files import read_table

QUICK = Settings(resamples=20)
LINE = Calibration(slope=2.0, intercept=-1.5, spoof_below=-1.0, bonafide_above=1.0, part_below=-2.0)
MANIFEST = {
    "calibration": asdict(LINE),
    "corpora": [{"name": "one", "adapter": "folder", "licence": None, "trials": {"eval": 240}, "digest": "ab" * 32}],
    "code": {"version": "0.1.0", "commit": None, "dvc": None},
    "params": {"seed": 1},
    "sources": ["s0", "s1"],
    "digest": "cd" * 32,
}


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
    drawn = detection_report(scores, protocol, asv, Settings(resamples=50)).metrics
    for figure in ("min_tdcf_legacy", "min_tdcf_2021"):
        assert drawn[f"one/{figure}_low"] < drawn[f"one/{figure}"] < drawn[f"one/{figure}_high"]
    few = detection_report(scores, protocol, settings=Settings(resamples=0, min_trials=50)).tables["per_source"]
    assert few["eer"].isna().all()


def test_files_are_complete_and_the_same_bytes(tmp_path):
    (s1, p1), (s2, p2) = make("one"), make("two")
    ids = [*p1["utterance_id"], *p2["utterance_id"]]
    options = {
        "embeddings": (ids[::-1], np.random.default_rng(0).normal(size=(480, 8))),
        "histories": {"wavespec": pd.DataFrame({"epoch": [1, 2], "train/loss": [2.0, 1.0], "dev/eer": [0.3, 0.2]})},
        "manifest": MANIFEST,
        "settings": QUICK,
    }
    for name in ("a", "b"):
        metrics = evaluate_tables(tmp_path / name, pd.concat([s1, s2]), pd.concat([p1, p2]), **options)
    files = sorted(path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*") if path.is_file())
    drawn = [f"figures/{kind}_{corpus}.png" for kind in ("embeddings", "scores", "sources") for corpus in ("one", "two")]
    drawn += [f"figures/{kind}_{corpus}.png" for kind in ("reliability", "tippett") for corpus in ("one", "two")]
    tables = ["decisions.csv", "det.csv", "headline.csv", "per_attack.csv", "per_condition.csv", "per_source.csv", "training.csv"]
    single = ["figures/det.png", "figures/training_wavespec.png", "metrics.json", "report.html", "trials.parquet", "warnings.txt"]
    assert files == sorted([*drawn, *tables, *single])
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    assert json.loads((tmp_path / "a/metrics.json").read_text()) == metrics


def act_dcf(bonafide, spoof):
    return detection.act_dcf(DetectionCurve.of(bonafide, spoof))


def cllr(bonafide, spoof):
    return detection.cllr(DetectionCurve.of(bonafide, spoof))


def min_cllr(bonafide, spoof):
    return detection.min_cllr(DetectionCurve.of(bonafide, spoof))


def test_calibrated_figures_stand_beside_those_of_the_scores_as_they_are():
    scores, protocol = make(gap=3)
    found, plain = (detection_report(scores, protocol, settings=QUICK, calibration=line) for line in (LINE, None))
    bonafide = (protocol["key"] == "bonafide").to_numpy()
    raw, llr = ((x[bonafide], x[~bonafide]) for x in (scores["cm_score"].to_numpy(), LINE.llr(scores["cm_score"])))
    assert {name: value for name, value in found.metrics.items() if "calibrated" not in name} == pytest.approx(plain.metrics)
    assert (found.metrics["one/cllr"], found.metrics["one/cllr_calibrated"]) == (cllr(*raw), cllr(*llr))
    assert found.metrics["one/cllr_min"] == min_cllr(*raw) < min(cllr(*raw), cllr(*llr))
    assert found.metrics["one/act_dcf_calibrated"] == act_dcf(*llr)
    for figure in ("eer", "min_dcf", "act_dcf", "act_dcf_calibrated", "cllr", "cllr_calibrated", "cllr_min"):
        assert found.metrics[f"one/{figure}_low"] <= found.metrics[f"one/{figure}"] <= found.metrics[f"one/{figure}_high"], figure
    rows = found.tables["per_condition"].set_index(["condition", "value"])
    english = (protocol["language"] == "en").to_numpy()
    expected = cllr(LINE.llr(scores["cm_score"])[bonafide & english], LINE.llr(scores["cm_score"])[~bonafide & english])
    assert rows.loc[("language", "en"), "cllr_calibrated"] == expected
    assert rows.loc[("language", "de"), ["cllr", "cllr_calibrated"]].isna().all()  # too few


def test_speakers_too_few_for_an_interval_are_said():
    scores, protocol = make()
    lone = protocol.assign(speaker=np.where(protocol["key"] == "bonafide", "one", "two"), source=None)
    with pytest.raises(InputError, match=r"no resample holds both keys.*set the number of resamples to 0"):
        detection_report(scores, lone, settings=Settings(resamples=1, seed=0))  # draws `two` twice


def test_a_calibration_that_misleads_is_warned_of():
    scores, protocol = make(gap=3)
    boast = Calibration(slope=30.0, intercept=40.0, spoof_below=-1.0, bonafide_above=1.0, part_below=-2.0)
    warnings = detection_report(scores, protocol, settings=QUICK, calibration=boast).warnings
    assert [warning.split(":")[0] for warning in warnings] == ["one, all", "one, without origin=local"]
    assert "the posteriors mislead" in warnings[0]
    assert detection_report(scores, protocol, settings=QUICK, calibration=LINE).warnings == []


def test_decisions_are_shares_of_each_key():
    scores, protocol = make(gap=3)
    table = detection_report(scores, protocol, settings=QUICK, calibration=LINE).tables["decisions"].set_index("key")
    assert table["trials"].to_dict() == {"bonafide": 80, "spoof": 160}
    llr = LINE.llr(scores["cm_score"])[protocol["key"] == "spoof"]
    assert table.loc["spoof", "inconclusive"] == np.mean((llr > -1) & (llr < 1)) > 0
    assert table[["bonafide", "inconclusive", "spoof"]].sum(axis=1).tolist() == pytest.approx([1, 1])


def test_the_table_of_trials_has_every_headline_trial_its_conditions_and_its_answer():
    scores, protocol = make()
    protocol["split"] = ["dev"] * 60 + ["eval"] * 180
    protocol["digest"] = [f"d{row}" for row in range(240)]
    traced = protocol[200:210].assign(answer="s1", ood_score=0.5, known=[True, False] * 5)
    table = trial_table(headline(protocol), scores[:-1], LINE, {"one": traced}).set_index("utterance_id")
    assert list(table.index) == [f"one-{row}" for row in range(60, 239)]  # the last has no score
    assert {"digest", "corpus", "key", "speaker", "source", "group", "language", "in_domain", "kind", "origin"} <= set(table)
    assert not {"seconds", "path", "split", "attack"} & set(table)
    np.testing.assert_array_equal(table["llr"], LINE.llr(table["cm_score"]))
    assert table["answer"].notna().sum() == table["ood_score"].notna().sum() == table["known"].notna().sum() == 10
    assert table.loc[["one-200", "one-201"], "known"].tolist() == [True, False]
    assert table["group"].isna().all()
    assert table["known"].dtype == "boolean"


def test_a_corpus_of_few_trials_is_not_parted_by_what_tells_its_trials_apart():
    scores, protocol = make(rows=36)
    report = detection_report(scores, protocol.assign(digest=[f"d{row}" for row in range(36)]), settings=QUICK)
    assert "digest" not in set(report.tables["per_condition"]["condition"])


def test_without_a_model_nothing_is_calibrated(tmp_path):
    scores, protocol = make()
    evaluate_tables(tmp_path / "out", scores, protocol, settings=QUICK)
    assert not (tmp_path / "out/decisions.csv").exists()
    assert read_table(tmp_path / "out/trials.parquet")["llr"].isna().all()
    assert "Not measured in this run" in (tmp_path / "out/report.html").read_text()


def test_a_grid_of_robustness_reaches_the_report(tmp_path):
    scores, protocol = make()
    grid = pd.DataFrame({"corpus": "one", "degradation": ["none", "mp3"], "level": [0.0, 32.0], "eer": [0.1, 0.25]})
    evaluate_tables(tmp_path / "out", scores, protocol, robustness=grid.assign(trials_bonafide=30, trials_spoof=60), settings=QUICK)
    assert "Worst: mp3 32: EER 25.0" in (tmp_path / "out/report.html").read_text()
