"""One process at a time, in a store that has unique names and nothing more."""

import multiprocessing
import time

import pytest

from earmark import InputError
from earmark.registry.lock import PREFIX, Lock, lock
from earmark.registry.server import connected


def names(client, what):
    return [model.name for model in client.search_registered_models(f"name LIKE '{PREFIX}{what}-%'")]


def test_the_second_waits_for_the_first(store):
    with lock(store.client, "waits") as held:
        held.check()
        with (
            pytest.raises(InputError, match=r"waits is locked by .*@.*: try again when it is done"),
            lock(store.client, "waits", wait_seconds=0),
        ):
            pass
    with lock(store.client, "waits", wait_seconds=0) as again:
        assert again.generation == held.generation + 1
    assert names(store.client, "waits") == [f"{PREFIX}waits-2"]


def test_whoever_was_slower_than_his_lease_is_told(store):
    slow = Lock(store.client, "slow", lease_seconds=0.1)
    slow.take(0)
    time.sleep(0.2)
    with lock(store.client, "slow", wait_seconds=0) as quick:
        quick.check()
        with pytest.raises(InputError, match="the lock of slow ran out and was taken over by"):
            slow.check()


def test_a_late_claim_of_an_old_generation_gives_way(store):
    """The process that saw generation 1 free, and asks for 2 only when 2 has come and gone."""
    with lock(store.client, "late"):
        pass
    late = Lock(store.client, "late", 60)
    seen = late._newest()
    for _ in range(2):
        with lock(store.client, "late"):
            pass
    with lock(store.client, "late", wait_seconds=0) as held:
        late._newest = lambda: seen
        assert not late._try()
        held.check()
    assert names(store.client, "late") == [f"{PREFIX}late-4"]


def count(tracking, path):
    """Add 1 to a file's number twice, slowly enough that two at once would lose one."""
    with connected(tracking) as store:
        for _ in range(2):
            with lock(store.client, "counter", wait_seconds=60):
                number = int(path.read_text())
                time.sleep(0.05)
                path.write_text(str(number + 1))


def test_processes_that_see_a_stale_lock_at_once_take_it_one_after_the_other(store, tracking, tmp_path):
    gone = {"owner": "gone@elsewhere", "process": "elsewhere/1/1.0", "token": "t", "expires": str(time.time() - 1)}
    store.client.create_registered_model(f"{PREFIX}counter-1", gone)
    (tmp_path / "number").write_text("0")
    forked = multiprocessing.get_context("fork")  # MLflow is imported once for all
    workers = [forked.Process(target=count, args=(tracking, tmp_path / "number")) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert (tmp_path / "number").read_text() == "8"
    assert names(store.client, "counter") == [f"{PREFIX}counter-9"]


def die(tracking):
    with connected(tracking) as store:
        Lock(store.client, "dead", 3600).take(0)


def test_the_lock_of_a_dead_process_of_this_machine_is_free(store, tracking):
    worker = multiprocessing.get_context("fork").Process(target=die, args=(tracking,))
    worker.start()
    worker.join()
    with lock(store.client, "dead", wait_seconds=0) as held:
        assert held.generation == 2
