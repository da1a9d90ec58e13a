"""Promotion: only as the record says, one at a time, and with a true record."""

import itertools
import json
import multiprocessing
from pathlib import Path

import pytest

from earmark import InputError
from earmark.params import GateParams
from earmark.registry import gate as stage
from earmark.registry import promote as promotion
from earmark.registry.promote import promote, rollback
from earmark.registry.register import register
from earmark.registry.server import UnreachableError, connected
from earmark.registry.versions import at, set_alias
from registry.examples import make_bundle, make_trials, write_evaluation, write_robustness

GATE = GateParams(resamples=100)
SEEDS = iter(range(1000, 2000))


@pytest.fixture
def tracking(local):
    """Promotions are tried on the embedded store, which each test has for itself; those that need a server say so."""
    return local


def candidate(tracking, folder, quality, licence="MIT"):
    """Register a new model of a given quality and let the gate decide; its decision, and its version."""
    seed = next(SEEDS)
    model = make_bundle(folder / "model", seed, licence)
    evaluation = write_evaluation(folder / "evaluation", make_trials(900, quality, seed))
    robustness = write_robustness(folder / "robustness")
    version = register(tracking, model=model, evaluation=evaluation, robustness=robustness, output=folder / "registration")["version"]
    tables = {"evaluation": evaluation, "registration": folder / "registration", "robustness": robustness}
    stage.gate(5, GATE, model=model, output=folder / "decision", **tables)
    return folder / "decision/decision.json", int(version)


def aliases(tracking):
    with connected(tracking) as store:
        found = {alias: at(store.client, alias) for alias in ("champion", "challenger", "previous", "commercial")}
    return {alias: int(version.version) for alias, version in found.items() if version}


def records(tracking, version):
    """Records kept with a version, and the digest that it names."""
    with connected(tracking) as store:
        found = store.client.get_model_version("earmark", str(version))
        folder = store.client.download_artifacts(found.run_id, "records")
    return {path.name: json.loads(path.read_text()) for path in Path(folder).iterdir()}, found.tags.get("record")


def test_champions_follow_each_other_and_come_back(tracking, tmp_path):
    decision, first = candidate(tracking, tmp_path, 2.0)
    assert promote(tracking, decision, "anna")["who"] == "anna"
    assert aliases(tracking) == {"champion": first, "commercial": first}

    decision, worse = candidate(tracking, tmp_path, 1.2)
    assert aliases(tracking)["challenger"] == worse
    with pytest.raises(InputError, match=r"refuses the challenger: win \(mean over corpora, eer\) failed by 0\.\d+.*hold \(tiny, eer\)"):
        promote(tracking, decision)
    assert aliases(tracking) == {"champion": first, "commercial": first, "challenger": worse}

    decision, better = candidate(tracking, tmp_path, 3.5, licence="CC-BY-NC-4.0")
    record = promote(tracking, decision)
    assert aliases(tracking) == {"champion": better, "previous": first, "commercial": first}
    assert (record["from"]["version"], record["to"]["version"]) == (first, better)
    kept, named = records(tracking, better)
    assert list(kept.values()) == [record]
    assert record["decision"] == json.loads(decision.read_text())
    assert named

    back = rollback(tracking, "ben", "it sold us lemons")
    assert aliases(tracking) == {"champion": first, "previous": better, "commercial": first}
    assert (back["who"], back["reason"], back["from"]["version"]) == ("ben", "it sold us lemons", better)
    kept, named = records(tracking, first)
    assert {record["action"] for record in kept.values()} == {"promotion", "rollback"}
    rollback(tracking)
    assert aliases(tracking) == {"champion": better, "previous": first}


def test_a_rollback_that_was_cut_short_anywhere_is_completed_with_one_record(tracking, tmp_path, monkeypatch):
    versions = []
    for quality in (2.0, 3.5):
        decision, version = candidate(tracking, tmp_path / str(quality), quality)
        promote(tracking, decision)
        versions.append(version)
    later, _ = candidate(tracking, tmp_path / "later", 5.5)
    plain, interrupted = promotion.set_alias, 0
    while True:
        before, calls = aliases(tracking), itertools.count()

        def cut(*given, calls=calls, last=interrupted):
            if next(calls) == last:
                raise ConnectionAbortedError
            plain(*given)

        monkeypatch.setattr(promotion, "set_alias", cut)
        try:
            rollback(tracking)
            break  # an undisturbed one moves no more aliases than that
        except ConnectionAbortedError:
            interrupted += 1
        monkeypatch.setattr(promotion, "set_alias", plain)
        with pytest.raises(InputError, match="a rollback was cut short: run `earmark rollback`"):
            promote(tracking, later)
        rollback(tracking)
        found = aliases(tracking)
        assert (found["champion"], found["previous"]) == (before["previous"], before["champion"])
    assert interrupted == 3, "champion, previous and commercial"
    kept = [record for version in versions for record in records(tracking, version)[0].values()]
    assert sum(record["action"] == "rollback" for record in kept) == interrupted + 1


def test_a_promotion_goes_by_the_version_of_its_decision_whoever_is_challenger(tracking, tmp_path):
    decision, first = candidate(tracking, tmp_path / "a", 2.0)
    _, second = candidate(tracking, tmp_path / "b", 2.4)
    record = promote(tracking, decision)
    assert promote(tracking, decision) == record  # a second time changes nothing
    assert aliases(tracking) == {"champion": first, "commercial": first, "challenger": second}
    with connected(tracking) as store:
        set_alias(store.client, "challenger", None)
    third, better = candidate(tracking, tmp_path / "c", 3.6)
    with connected(tracking) as store:
        set_alias(store.client, "challenger", None)
    promote(tracking, third)
    assert aliases(tracking) == {"champion": better, "previous": first, "commercial": better}


def test_a_decision_about_another_champion_or_evaluation_is_refused(tracking, tmp_path):
    old, _ = candidate(tracking, tmp_path / "a", 2.0)
    new, second = candidate(tracking, tmp_path / "b", 2.4)
    promote(tracking, new)
    with pytest.raises(InputError, match=f"the champion is version {second}, the decision compared with version none: run the stages"):
        promote(tracking, old)
    late, third = candidate(tracking, tmp_path / "c", 3.6)
    decided = json.loads(late.read_text())
    for change, message in (
        ({"version": 99}, "earmark has no version 99, of which the decision is"),
        ({"evaluation": "other"}, f"version {third} has another model or evaluation than the decision judged"),
    ):
        late.write_text(json.dumps(decided | {"challenger": decided["challenger"] | change}))
        with pytest.raises(InputError, match=message):
            promote(tracking, late)
    late.write_text(json.dumps(decided | {"rules": [dict(decided["rules"][0], passed=False)]}))
    with pytest.raises(InputError, match=r"refuses the challenger: registered"):
        promote(tracking, late)
    assert aliases(tracking)["champion"] == second


@pytest.mark.parametrize("after", [1, 2], ids=["before it was set", "after it was set"])
def test_a_champion_that_is_moved_meanwhile_is_named_and_the_promotion_refused(tracking, tmp_path, monkeypatch, after):
    decision, version = candidate(tracking, tmp_path / "a", 2.0)
    _, other = candidate(tracking, tmp_path / "b", 2.4)
    plain, calls = promotion.at, itertools.count(1)

    def moved(client, alias):
        if alias == "champion" and next(calls) == after + 1:  # the first reads it for the decision
            client.set_registered_model_alias("earmark", "champion", str(other))
        return plain(client, alias)

    monkeypatch.setattr(promotion, "at", moved)
    with pytest.raises(InputError, match=f"the champion is version {other} and was moved while version {version} was to become it"):
        promote(tracking, decision)
    assert aliases(tracking)["champion"] == other


def test_without_a_record_or_a_previous_champion_there_is_nothing_to_do(tracking, tmp_path):
    with pytest.raises(InputError, match=r"decision.json does not exist: run `earmark gate` first"):
        promote(tracking, tmp_path / "decision.json")
    with pytest.raises(InputError, match="earmark has no previous champion to go back to"):
        rollback(tracking)


def test_a_promotion_that_was_cut_short_is_completed_with_one_record(served, relay, tmp_path):
    decision, version = candidate(served, tmp_path, 2.0)
    relay.cut("registered-models/alias", answered=True)
    with pytest.raises(UnreachableError):
        promote(served, decision)
    relay.mend()
    record = promote(served, decision)
    found = aliases(served)
    assert (found["champion"], "challenger" in found) == (version, False)
    kept, _ = records(served, version)
    assert list(kept.values()) == [record]


def try_promotion(tracking, decision, results, barrier):
    barrier.wait()
    try:
        results.put(promote(tracking, decision)["to"]["version"])
    except InputError as error:
        results.put(str(error))


def test_of_promotions_at_once_one_wins_and_its_record_is_true(served, tmp_path):
    decision, version = candidate(served, tmp_path, 2.0)
    forked = multiprocessing.get_context("fork")
    results, barrier = forked.Queue(), forked.Barrier(4)
    workers = [forked.Process(target=try_promotion, args=(served, decision, results, barrier)) for _ in range(4)]
    for worker in workers:
        worker.start()
    said = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert said == [version] * 4  # by one decision: the others find it done
    assert aliases(served)["champion"] == version
    kept, named = records(served, version)
    assert len(kept) == 1
    assert named
