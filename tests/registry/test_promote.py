"""Promotion: only as the record says, one at a time, and with a true record."""

import itertools
import json
import multiprocessing
import threading
from pathlib import Path

import pytest

from earmark import InputError
from earmark.params import GateParams
from earmark.registry import gate as stage
from earmark.registry import promote as promotion
from earmark.registry.lock import Lock
from earmark.registry.promote import promote, rollback
from earmark.registry.register import register
from earmark.registry.server import UnreachableError, connected
from earmark.registry.versions import at
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


def aliases(tracking, name="earmark"):
    with connected(tracking) as store:
        found = {alias: at(store.client, name, alias) for alias in ("champion", "challenger", "previous", "commercial")}
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
    assert aliases(tracking, "earmark-detector") == aliases(tracking)
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
        assert aliases(tracking, "earmark-detector") == {name: found[name] for name in ("champion", "previous", "commercial", "challenger")}
    assert interrupted >= 4, "the model and its parts"
    kept = [record for version in versions for record in records(tracking, version)[0].values()]
    assert sum(record["action"] == "rollback" for record in kept) == interrupted + 1


def test_a_record_of_other_models_is_refused(tracking, tmp_path):
    old, first = candidate(tracking, tmp_path / "a", 2.0)
    _, second = candidate(tracking, tmp_path / "b", 2.4)
    with pytest.raises(InputError, match=f"the challenger is version {second}, the decision is of version {first}: run the stages"):
        promote(tracking, old)
    third, _ = candidate(tracking, tmp_path / "c", 2.0)
    record = promote(tracking, third)
    assert promote(tracking, third) == record  # a second time changes nothing
    assert aliases(tracking) == {"champion": 3, "commercial": 3}
    with pytest.raises(InputError, match=r"no version of earmark is challenger, version \d may have been promoted"):
        promote(tracking, old)
    late, _ = candidate(tracking, tmp_path / "d", 3.6)
    decided = json.loads(late.read_text())
    late.write_text(json.dumps(decided | {"champion": None}))
    with pytest.raises(InputError, match=r"the champion is version 3, the decision compared with version none"):
        promote(tracking, late)
    late.write_text(json.dumps(decided | {"rules": [dict(decided["rules"][0], passed=False)]}))
    with pytest.raises(InputError, match=r"refuses the challenger: registered"):
        promote(tracking, late)


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


def test_a_promotion_whose_lock_was_taken_over_moves_nothing(tracking, tmp_path, monkeypatch):
    decision, version = candidate(tracking, tmp_path, 2.0)
    check, calls = Lock.check, threading.Event()

    def late(held):
        if not calls.is_set():
            calls.set()
            held.client.create_registered_model(f"earmark-lock-promotion-{held.generation + 1}", {"owner": "quick@elsewhere"})
        check(held)

    monkeypatch.setattr(Lock, "check", late)
    with pytest.raises(InputError, match="the lock of promotion ran out and was taken over by quick@elsewhere"):
        promote(tracking, decision)
    assert aliases(tracking) == {"challenger": version}
