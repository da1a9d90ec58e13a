"""The report on answers made up so that every figure is known."""

import numpy as np
import pandas as pd
import pytest

from earmark.corpora.sources import UNSEEN
from earmark.ensemble.fusion import FUSION, Ensemble
from earmark.evaluation.tracing import Answers, coverage, distances, draw, join_answers, mark, quadrants, tracing_report
from earmark.metrics.detection import auroc
from earmark.metrics.frechet import frechet_distance
from earmark.metrics.tracing import rejection_curve
from earmark.scoring.outputs import Output

SOURCES = ("a", "b", "c")


def outputs(labels: np.ndarray, seed: int) -> dict[str, Output]:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((len(labels), 4)) * 0.6
    vectors[labels != UNSEEN] += 3 * np.eye(4)[labels[labels != UNSEEN]]
    return {"one": Output(2 * vectors[:, :3], vectors)}


def rows(split: str, labels: np.ndarray) -> pd.DataFrame:
    count = np.arange(len(labels))
    names = np.where(labels == UNSEEN, np.where(count % 2, "x", "y"), np.array(SOURCES)[labels])
    return pd.DataFrame(
        {
            "utterance_id": [f"{split}{n}" for n in count],
            "corpus": "one",
            "key": "spoof",
            "source": names,
            "split": split,
            "group": [f"{'train' if n % 3 else 'eval'}{n % 7}" if split == "eval" else f"train{n % 7}" for n in count],
            "language": np.where((split == "eval") & (count % 4 == 0), "de", "en"),
            "origin": np.where(names == "a", "local", "web"),
        }
    )


TRAIN, DEV, EVAL = np.repeat([0, 1, 2], 20), np.repeat([0, 1, 2, UNSEEN], 15), np.repeat([0, 1, 2, UNSEEN], 20)


@pytest.fixture(scope="module")
def found() -> tuple[Answers, pd.DataFrame]:
    ensemble = Ensemble.fit(SOURCES, outputs(TRAIN, 0), TRAIN, outputs(DEV, 1), DEV)
    tables = {split: rows(split, labels) for split, labels in (("train", TRAIN), ("dev", DEV), ("eval", EVAL))}
    parts = []
    for split, labels, seed in (("dev", DEV, 1), ("eval", EVAL, 2)):
        answer = ensemble.answer(outputs(labels, seed))
        parts.append(
            pd.DataFrame(
                {
                    "utterance_id": tables[split]["utterance_id"],
                    "source": np.array(SOURCES)[answer.logits.argmax(1)],
                    "ood_score": answer.ood_score,
                    "unseen": answer.ood_score > ensemble.threshold,
                    "set": [np.array(SOURCES)[row].tolist() for row in answer.sets],
                    "embedding": list(answer.embeddings),
                }
            )
        )
    answers = pd.concat(parts, ignore_index=True)
    plain = answers[["utterance_id", "source", "ood_score"]]
    systems = pd.concat([plain.assign(system=FUSION), plain.assign(system="flipped", ood_score=-plain["ood_score"])], ignore_index=True)
    return Answers(ensemble, systems, answers, tables["train"], tables["dev"]), tables["eval"]


def test_figures_are_those_of_the_metrics_and_every_system_has_its_row(found):
    answers, protocol = found
    report = tracing_report(answers, protocol)
    table = report.tables["tracing"].set_index(["trials", "system"])
    own = join_answers(mark(protocol, answers), answers.answers)
    scores = own["ood_score"].to_numpy()
    area = auroc(rejection_curve(scores[:60], scores[60:]))
    assert table.loc[("all", FUSION), "auroc"] == area == report.metrics["one/tracing/auroc"]
    assert table.loc[("all", "flipped"), "auroc"] == pytest.approx(1 - report.metrics["one/tracing/auroc"])
    assert report.metrics["one/tracing/accuracy"] == (own["answer"] == own["source"])[:60].mean() > 0.9
    assert (report.metrics["one/tracing/known"], report.metrics["one/tracing/unseen"]) == (60, 20)
    assert np.isfinite(list(report.metrics.values())).all()


def test_the_ensemble_s_figures_have_intervals_in_every_part_of_the_trials(found):
    answers, protocol = found
    protocol = protocol.assign(speaker=[f"p{row % 6}" for row in range(len(protocol))])
    plain, report = tracing_report(answers, protocol), tracing_report(answers, protocol, resamples=50, seed=1)
    assert {name: value for name, value in report.metrics.items() if name in plain.metrics} == plain.metrics
    for place in ("one/tracing/", "one/tracing/without_origin_local/"):
        for figure in ("accuracy", "macro_f1", "auroc", "eer", "fpr95", "eer_classification", "oscr", "mean_auroc"):
            low, value, high = (report.metrics[f"{place}{figure}{end}"] for end in ("_low", "", "_high"))
            assert low <= value <= high, figure
    others = report.tables["tracing"].query("system != @FUSION")
    assert others["auroc_low"].isna().all()


def test_trials_are_reported_whole_without_classical_engines_and_without_train_s_groups(found):
    answers, protocol = found
    counts = tracing_report(answers, protocol).tables["tracing"].query("system == @FUSION").set_index("trials")[["known", "unseen"]]
    assert counts.loc["all"].tolist() == [60, 20]
    assert counts.loc["without origin=local"].tolist() == [40, 20]
    fresh = protocol["group"].str.startswith("eval")
    assert counts.loc["groups not in train"].tolist() == [int(fresh[:60].sum()), int(fresh[60:].sum())]


def test_official_scoring_counts_repeats_and_believes_the_filing(found):
    answers, protocol = found
    filed = protocol.assign(quadrant="lang_seen model_seen", listed="1", strictly_unseen="False")
    filed.loc[60:, "quadrant"] = "lang_seen model_not_seen"
    filed.loc[0, "quadrant"] = "lang_seen model_not_seen"  # of a training source
    filed.loc[1, "listed"] = "3"
    filed.loc[70:, "strictly_unseen"] = "True"
    counts = tracing_report(answers, filed).tables["tracing"].query("system == @FUSION").set_index("trials")[["known", "unseen"]]
    assert counts.loc["official"].tolist() == [59 + 2, 21]
    assert counts.loc["strictly unseen"].tolist() == [60, 10]
    assert counts.loc["all"].tolist() == [60, 20]


def test_means_over_unseen_sources_let_no_large_one_rule(found):
    answers, protocol = found
    report = tracing_report(answers, protocol)
    unseen = report.tables["tracing_unseen"]
    assert unseen["source"].tolist() == ["x", "y"]
    assert unseen["trials"].sum() == 20
    assert report.metrics["one/tracing/mean_auroc"] == pytest.approx(unseen["auroc"].mean())


def test_coverage_has_wilson_s_interval_and_an_unseen_answer_is_the_empty_set():
    table = pd.DataFrame(
        {
            "known": [True] * 4 + [False] * 2,
            "source": ["a", "b", "c", "c", "x", "x"],
            "set": [["a"], ["a", "b"], ["a"], ["c"], [], ["b"]],
            "unseen": [False, False, True, False, True, False],
        }
    )
    figures = coverage(table)
    assert figures["coverage"] == 0.75
    assert (figures["coverage_low"], figures["coverage_high"]) == pytest.approx((0.3006, 0.9544), abs=1e-4)  # Wilson, 3 of 4
    assert figures["set_size"] == 1.25
    assert figures["rejected_known"] == 0.25
    assert figures["empty_set_of_unseen"] == 0.5
    assert figures["rejected_unseen"] == 0.5


def test_quadrants_part_language_and_source(found):
    answers, protocol = found
    own = join_answers(mark(protocol, answers), answers.answers)
    table = quadrants(own).set_index(["language", "source"])
    assert table.loc[("unseen", "seen"), "trials"] == 15
    assert table["trials"].sum() == 80
    german = own[(own["language"] == "de") & own["known"]]
    assert table.loc[("unseen", "seen"), "accuracy"] == (german["answer"] == german["source"]).mean()
    assert quadrants(own.assign(new_language=pd.NA)).empty


def test_distances_are_frechet_s_to_train(found):
    answers, protocol = found
    own = join_answers(mark(protocol, answers), answers.answers)
    table = distances(own, answers).set_index("set")
    assert list(table.index) == ["dev known", "dev unseen", "eval known", "eval unseen"]
    vectors = np.stack(own["embedding"].to_list())[60:]
    assert table.loc["eval unseen", "distance"] == frechet_distance(answers.ensemble.bank.units, vectors)
    assert table.loc["eval unseen", "distance"] > table.loc["eval known", "distance"]


def test_a_corpus_of_known_sources_alone_has_no_rejection_and_no_nan(found):
    answers, protocol = found
    report = tracing_report(answers, protocol[:60])
    assert "one/tracing/auroc" not in report.metrics
    assert np.isfinite(list(report.metrics.values())).all()
    assert "tracing_unseen" not in report.tables


def test_every_figure_is_drawn(found, tmp_path):
    answers, protocol = found
    report = tracing_report(answers, protocol)
    draw(tmp_path, report, answers, 0)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"tracing_{kind}_one.png" for kind in ("confusion", "roc", "scores", "embeddings")}
    assert all(path.stat().st_size > 5000 for path in tmp_path.iterdir())
