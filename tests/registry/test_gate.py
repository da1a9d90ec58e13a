"""The gate is pure: tables in, a record out."""

import json

import pytest

from earmark import InputError
from earmark.model.manifest import read_manifest
from earmark.params import GateParams
from earmark.registry import gate as stage
from earmark.storage.files import file_digest, write_json
from registry.examples import make_bundle, make_trials, write_evaluation, write_robustness

GATE = GateParams(resamples=100, slice_trials=50)


class Bench:
    """A challenger and perhaps a champion, as the stages before the gate leave them."""

    def __init__(self, folder, challenger, champion=None, *, licence="MIT", passed=True, robustness=0.2):
        self.folder = folder
        self.model = make_bundle(folder / "model", 2, licence, passed)
        self.evaluation = write_evaluation(folder / "evaluation", challenger)
        self.robustness = write_robustness(folder / "robustness", robustness)
        self.registration = folder / "registration"
        found = None
        if champion is not None:
            kept = write_evaluation(self.registration / "champion", champion)
            found = {"version": 1, "bundle": "b" * 64, "evaluation": file_digest(kept / "trials.parquet")}
        self.write(bundle=read_manifest(self.model)["digest"], evaluation=file_digest(self.evaluation / "trials.parquet"), champion=found)

    def write(self, **values):
        write_json(self.registration / "registration.json", {"schema": 1, "registered": True, "version": 2, **values})

    def decide(self, gate=GATE):
        tables = {"evaluation": self.evaluation, "registration": self.registration, "robustness": self.robustness}
        metrics = stage.gate(5, gate, model=self.model, output=self.folder / "decision", **tables)
        self.record = json.loads((self.folder / "decision/decision.json").read_text())
        assert metrics["passed"] == (self.record["verdict"] == "pass")
        return {(rule["rule"], rule["place"], rule["figure"]): rule for rule in self.record["rules"] if not rule["passed"]}


def test_a_better_challenger_passes_every_rule(tmp_path):
    bench = Bench(tmp_path, make_trials(quality=3.5, seed=1), make_trials(quality=2.0))
    assert bench.decide() == {}
    rules = {rule["rule"] for rule in bench.record["rules"]}
    assert rules == {
        *("registered", "self-test", "calibration", "robustness", "another model", "same trials", "same tracing", "win", "hold", "slice"),
    }
    win = next(rule for rule in bench.record["rules"] if rule["rule"] == "win")
    assert win["low"] <= win["challenger"] - win["champion"] <= win["high"] < 0
    held = {rule["figure"] for rule in bench.record["rules"] if rule["rule"] == "hold"}
    assert held == {"eer", "cllr", "accuracy", "auroc"}
    judged = {rule["place"].split(", ")[1] for rule in bench.record["rules"] if rule["rule"] == "slice"}
    assert {"codec=mp3", "language=de", "source=engine2"} <= judged
    assert bench.record["commercial"] == {"allowed": True, "barred_by": []}
    assert (tmp_path / "decision/rules.csv").exists()


def test_an_equal_challenger_does_not_win(tmp_path):
    failed = Bench(tmp_path, make_trials(quality=2.0, seed=1), make_trials(quality=2.0)).decide()
    assert set(failed) == {("win", "mean over corpora", "eer")}
    assert failed["win", "mean over corpora", "eer"]["missed_by"] >= 0


def test_a_worse_challenger_fails_by_a_stated_amount(tmp_path):
    bench = Bench(tmp_path, make_trials(quality=1.2, seed=1), make_trials(quality=2.5))
    failed = bench.decide()
    assert {("win", "mean over corpora", "eer"), ("hold", "tiny", "eer"), ("hold", "tiny", "cllr"), ("hold", "tiny", "auroc")} <= set(
        failed
    )
    eer = failed["hold", "tiny", "eer"]
    assert eer["missed_by"] == pytest.approx(eer["low"])
    assert eer["challenger"] > eer["champion"]


def test_one_slice_may_fall_behind_by_the_margin_and_no_more(tmp_path):
    challenger, champion = make_trials(quality=3.5, seed=1), make_trials(quality=2.0)
    mp3 = (challenger["codec"] == "mp3") & (challenger["key"] == "spoof")
    challenger.loc[mp3 & (challenger.index % 4 == 0), "llr"] = 3.0
    failed = Bench(tmp_path, challenger, champion).decide(GATE.model_copy(update={"hold": ()}))
    assert ("slice", "tiny, codec=mp3", "eer") in failed
    found = failed["slice", "tiny, codec=mp3", "eer"]
    assert found["missed_by"] == pytest.approx(found["challenger"] - found["champion"] - 0.02)
    wide = GATE.model_copy(update={"hold": (), "slices": {"codec": 0.5}})
    assert not any(rule == "slice" for rule, *_ in Bench(tmp_path / "wide", challenger, champion).decide(wide))


def test_a_slice_of_few_trials_is_not_compared(tmp_path):
    bench = Bench(tmp_path, make_trials(quality=3.5, seed=1), make_trials(quality=2.0))
    bench.decide(GATE.model_copy(update={"slice_trials": 10_000}))
    assert not any(rule["rule"] == "slice" for rule in bench.record["rules"])


def test_a_first_promotion_is_held_to_absolute_bounds_alone(tmp_path):
    bench = Bench(tmp_path, make_trials(quality=2.5, corpora=("tiny", "other")))
    assert bench.decide() == {}
    assert {(rule["rule"], rule["place"]) for rule in bench.record["rules"]} >= {("first", "tiny"), ("first", "other")}
    assert not any(rule["rule"] in ("win", "hold", "slice", "same trials") for rule in bench.record["rules"])
    failed = Bench(tmp_path / "weak", make_trials(quality=0.5)).decide()
    assert failed["first", "tiny", "eer"]["missed_by"] == pytest.approx(failed["first", "tiny", "eer"]["challenger"] - GATE.first.eer)


def test_models_evaluated_on_different_trials_are_refused_with_an_example(tmp_path):
    champion = make_trials(quality=2.0)
    failed = Bench(tmp_path, make_trials(quality=3.5, seed=1).iloc[:-1], champion).decide()
    assert set(failed) == {("same trials", "", "")}
    assert "1 of the champion alone, such as u1199" in failed["same trials", "", ""]["note"]
    champion.loc[3, "digest"] = "another recording"
    assert set(Bench(tmp_path / "other", make_trials(quality=3.5, seed=1), champion).decide()) == {("same trials", "", "")}


@pytest.mark.parametrize(
    ("licence", "barred"),
    [("CC-BY-4.0", []), ("CC-BY-NC-4.0", ["CC-BY-NC-4.0"]), (None, ["unknown"]), ("research only", ["research only"])],
)
def test_licences_bar_the_commercial_alias_alone(tmp_path, licence, barred):
    bench = Bench(tmp_path, make_trials(quality=2.5), licence=licence)
    assert bench.decide() == {}
    assert bench.record["commercial"] == {"allowed": not barred, "barred_by": [{"corpus": "tiny", "licence": name} for name in barred]}


def test_robustness_self_test_and_calibration_are_asked(tmp_path):
    failed = Bench(tmp_path / "a", make_trials(quality=2.5), robustness=0.5).decide()["robustness", "tiny, mp3 32.0", "eer"]
    assert (failed["challenger"], failed["low"]) == (0.5, 0.45)
    assert failed["missed_by"] == pytest.approx(0.05)
    assert Bench(tmp_path / "within", make_trials(quality=2.5), robustness=0.44).decide() == {}  # its interval reaches the bound
    chance = Bench(tmp_path / "mean", make_trials(quality=2.5), robustness=0.6).decide()  # levels of .3 and .6
    assert chance["robustness", "tiny, mean of 2 degradations", "eer"]["missed_by"] == pytest.approx(0.05)
    few = GATE.model_copy(update={"robustness_trials": 10**6})
    assert set(Bench(tmp_path / "b", make_trials(quality=2.5)).decide(few)) == {("robustness", "", "eer")}
    assert Bench(tmp_path / "c", make_trials(quality=2.5)).decide(few.model_copy(update={"robustness_eer": None})) == {}
    assert set(Bench(tmp_path / "d", make_trials(quality=2.5), passed=False).decide()) == {("self-test", "", "")}
    off = make_trials(quality=2.5)
    off["llr"] += 6
    assert {figure for rule, _, figure in Bench(tmp_path / "e", off).decide() if rule == "calibration"} == {"cllr", "calibration_loss"}


def test_the_record_has_the_same_bytes_twice_and_names_its_inputs(tmp_path):
    bench = Bench(tmp_path, make_trials(quality=3.5, seed=1), make_trials(quality=2.0))
    bench.decide()
    before = (tmp_path / "decision/decision.json").read_bytes()
    bench.decide()
    assert (tmp_path / "decision/decision.json").read_bytes() == before
    assert bench.record["inputs"] == {
        "manifest": file_digest(bench.model / "manifest.json"),
        "registration": file_digest(bench.registration / "registration.json"),
        "challenger": file_digest(bench.evaluation / "trials.parquet"),
        "champion": file_digest(bench.registration / "champion/trials.parquet"),
        "robustness": file_digest(bench.robustness / "robustness.parquet"),
    }
    assert bench.record["settings"]["resamples"] == 100


def test_a_model_that_is_in_no_registry_is_refused_and_so_is_the_champion_itself(tmp_path):
    bench = Bench(tmp_path, make_trials(quality=2.5))
    write_json(bench.registration / "registration.json", {"schema": 1, "registered": False, "champion": None})
    assert set(bench.decide()) == {("registered", "", "")}
    own = Bench(tmp_path / "own", make_trials(quality=2.5), make_trials(quality=2.5))
    found = {"bundle": read_manifest(own.model)["digest"], "evaluation": file_digest(own.evaluation / "trials.parquet")}
    own.write(**found, champion={"version": 2, **found})
    assert ("another model", "", "") in own.decide()


def test_inputs_of_different_models_are_an_error(tmp_path):
    bench = Bench(tmp_path, make_trials(quality=2.5))
    write_evaluation(bench.evaluation, make_trials(quality=2.6))
    with pytest.raises(InputError, match=r"trials.parquet is not the one that was registered: run `earmark register` again"):
        bench.decide()
    make_bundle(bench.model, 3)
    with pytest.raises(InputError, match=r"manifest.json is not the one that was registered"):
        bench.decide()


def test_a_table_without_calibrated_scores_is_named(tmp_path):
    with pytest.raises(InputError, match=r"trials.parquet has no column llr"):
        Bench(tmp_path, make_trials().drop(columns="llr")).decide()


def test_a_challenger_that_traces_less_than_the_champion_is_refused(tmp_path):
    challenger, champion = make_trials(quality=3.5, seed=1), make_trials(quality=2.0)
    without = ["answer", "ood_score", "known"]
    assert set(Bench(tmp_path / "a", challenger.drop(columns=without), champion).decide()) == {("same tracing", "", "")}
    assert Bench(tmp_path / "b", challenger, champion.drop(columns=without)).decide() == {}
    partly = challenger.assign(answer=challenger["answer"].mask(challenger.index < 300))
    assert set(Bench(tmp_path / "c", partly, champion).decide()) == {("same tracing", "", "")}
    strangers = challenger.assign(known=~challenger["known"])
    assert set(Bench(tmp_path / "d", strangers, champion).decide()) == {("same tracing", "", "")}


def test_tracing_is_compared_where_a_source_is_known_to_both(tmp_path):
    challenger, champion = make_trials(quality=3.5, seed=1), make_trials(quality=2.0)
    learned = (challenger["source"] == "engine2").to_numpy()
    bench = Bench(tmp_path, challenger.assign(known=challenger["known"] | learned), champion)
    assert bench.decide() == {}
    figures = {rule["figure"]: rule for rule in bench.record["rules"] if rule["rule"] == "hold"}
    assert "accuracy" in figures
    assert "auroc" not in figures  # engine2 was all that was unseen
