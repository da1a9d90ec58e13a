"""Enrolment: the rule on clouds of embeddings, and the command on real clips and fitted members."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from typer.testing import CliRunner

from earmark import InputError, params
from earmark.__main__ import app
from earmark.corpora.sources import UNSEEN
from earmark.ensemble.enrolment import Enrolled, describe, leave_one_out
from earmark.ensemble.fusion import FILE, Ensemble, load
from earmark.model.enrol import enrol, read_dev, share_right
from earmark.scoring.outputs import Output
from earmark.stages import ARTIFACTS

CENTRES = np.eye(6)


def cloud(centre: int, count: int, seed: int, noise: float = 0.15) -> np.ndarray:
    """Fused embeddings, of length 1, about one of six directions; the ensemble knows the first three."""
    found = CENTRES[centre] + noise * np.random.default_rng(seed).standard_normal((count, 6))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    def outputs(seed: int, labels: np.ndarray) -> dict[str, Output]:
        vectors = np.concatenate([cloud(label if label != UNSEEN else 4, 1, seed + n) for n, label in enumerate(labels)])
        return {"one": Output(8 * vectors[:, :3], vectors)}

    train, dev = np.repeat([0, 1, 2], 20), np.repeat([0, 1, 2, UNSEEN], 20)
    return Ensemble.fit(("a", "b", "c"), outputs(100, train), train, outputs(900, dev), dev)


def clips(count: int, name: str = "clip") -> dict[str, str]:
    return {f"{name}{n}": hashlib.sha256(bytes([n])).hexdigest() for n in range(count)}


def test_an_enrolled_source_claims_its_own_clips_and_none_of_the_others(ensemble):
    enrolled = Enrolled("x").add("new", cloud(3, 5, 1), clips(5), ensemble).add("other", cloud(5, 5, 2), clips(5), ensemble)
    assert (enrolled.claim(cloud(3, 50, 3), ensemble) == 0).mean() > 0.7
    assert (enrolled.claim(cloud(5, 50, 4), ensemble) == 1).mean() > 0.7
    for known in (0, 1, 2, 4):
        assert (enrolled.claim(cloud(known, 50, 5), ensemble) == -1).mean() > 0.9
    assert (Enrolled("x").claim(cloud(3, 4, 1), ensemble) == -1).all()


def test_an_utterance_farther_than_known_sources_reach_is_nobody_s(ensemble):
    enrolled = Enrolled("x").add("new", cloud(3, 5, 1), clips(5), ensemble)
    near = cloud(3, 1, 1, 0.0)
    across = near * 0.5 + CENTRES[5] * 0.8
    assert enrolled.claim(near, ensemble)[0] == 0
    assert (across @ enrolled.prototypes.T)[0, 0] < ensemble.radius
    assert enrolled.claim(across / np.linalg.norm(across), ensemble)[0] == -1


def test_what_is_left_out_is_claimed_by_the_rest(ensemble):
    tight, mixed = cloud(3, 10, 1, 0.05), np.concatenate([cloud(3, 9, 1, 0.05), cloud(0, 1, 1, 0.05)])
    assert leave_one_out(Enrolled("x"), "new", tight, clips(10), ensemble) == 1
    assert leave_one_out(Enrolled("x"), "new", mixed, clips(10), ensemble) == 0.9


def test_every_change_is_a_version_and_a_file_read_back_is_the_same(ensemble, tmp_path):
    (tmp_path / FILE).write_bytes(b"an ensemble")
    start = Enrolled.load(tmp_path / "enrolled.safetensors", tmp_path / FILE)
    changed = start.add("new", cloud(3, 5, 1), clips(5), ensemble).add("other", cloud(5, 7, 2), clips(7), ensemble).remove("new")
    changed.save(tmp_path / "enrolled.safetensors")
    back = Enrolled.load(tmp_path / "enrolled.safetensors", tmp_path / FILE)
    assert (back.version, back.names, back.history) == (3, ("other",), changed.history)
    assert np.array_equal(back.prototypes, changed.prototypes)
    assert [entry["action"] for entry in back.history] == ["enrol", "enrol", "remove"]
    assert describe(back).to_dict("records") == [{"source": "other", "clips": 7, "since version": 2}]
    assert back.remove("other").prototypes is None
    (tmp_path / FILE).write_bytes(b"another ensemble")
    with pytest.raises(InputError, match="made with another ensemble"):
        Enrolled.load(tmp_path / "enrolled.safetensors", tmp_path / FILE)


def test_names_that_are_taken_or_absent_and_clips_without_direction_are_refused(ensemble):
    enrolled = Enrolled("x").add("new", cloud(3, 5, 1), clips(5), ensemble)
    with pytest.raises(InputError, match="new is enrolled already: remove it first"):
        enrolled.add("new", cloud(3, 5, 1), clips(5), ensemble)
    with pytest.raises(InputError, match="a is a source that the networks were trained on"):
        enrolled.add("a", cloud(3, 5, 1), clips(5), ensemble)
    with pytest.raises(InputError, match="nobody is not enrolled; enrolled are: new"):
        enrolled.remove("nobody")
    silent = cloud(3, 5, 1)
    silent[2] = 0
    with pytest.raises(InputError, match="clip2: the embedding is zero"):
        enrolled.add("third", silent, clips(5), ensemble)


def places(done: Path) -> tuple[Path, Path, Path]:
    return tuple(done / ARTIFACTS[key] for key in ("protocol", "members", "answers"))  # pyright: ignore


def test_enrolling_touches_no_network_and_reports_old_and_new(done, tiny, engine_clips):
    before = {path: path.read_bytes() for path in (done / ARTIFACTS["members"]).iterdir()}
    ensemble = done / ARTIFACTS["answers"] / FILE
    after, table = enrol(tiny, "new", engine_clips, Enrolled.load(done / "none", ensemble), *places(done))
    assert after.names == ("new",)
    assert set(after.history[0]["clips"]) == {f"{number}.wav" for number in range(6)}
    assert list(table["accuracy on"]) == ["new: clips, each left out in turn", "known sources: dev"]
    fitted = load(ensemble)
    vectors, named, labels = read_dev(fitted, done / ARTIFACTS["protocol"], done / ARTIFACTS["answers"])
    assert table["before"][1] == np.mean(named == labels) == share_right(Enrolled("x"), vectors, named, labels, fitted)
    assert table["after"][1] <= table["before"][1]
    assert before == {path: path.read_bytes() for path in (done / ARTIFACTS["members"]).iterdir()}


def test_folders_that_cannot_be_enrolled_are_refused_by_name(done, tiny, engine_clips, tmp_path):
    start = Enrolled.load(done / "none", done / ARTIFACTS["answers"] / FILE)
    with pytest.raises(InputError, match="has 0 clips: a source is enrolled from at least 5"):
        enrol(tiny, "new", tmp_path, start, *places(done))
    with pytest.raises(InputError, match="nowhere: no such folder"):
        enrol(tiny, "new", tmp_path / "nowhere", start, *places(done))
    for name, samples in (("silent", np.zeros(16_000)), ("text", None)):
        broken = tmp_path / name
        broken.mkdir()
        for clip in engine_clips.iterdir():
            (broken / clip.name).write_bytes(clip.read_bytes())
        if samples is None:
            (broken / "0.wav").write_text("no sound")
        else:
            sf.write(broken / "0.wav", samples, 16_000)
        with pytest.raises(InputError, match=r"0\.wav"):
            enrol(tiny, "new", broken, start, *places(done))
    with pytest.raises(InputError, match="engine0 is a source that the networks were trained on"):
        enrol(tiny, "engine0", engine_clips, start, *places(done))


def test_the_command_prints_saves_lists_and_removes(done, tiny, engine_clips, tmp_path, monkeypatch):
    (tmp_path / "artifacts").symlink_to(done / "artifacts")
    (tmp_path / "params.yaml").write_text(params.dump(tiny))

    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["enrol", "--file", "mine.safetensors", *arguments])
        if done.exception:
            raise done.exception
        return done.output

    assert "no source is enrolled" in run("--list")
    first = run("--source", "new", str(engine_clips))
    assert "known sources: dev" in first
    assert "nan" not in first
    assert first.splitlines()[-1] == "version 1: mine.safetensors"
    assert "new" in run("--list")
    with pytest.raises(InputError, match="new is enrolled already"):
        run("--source", "new", str(engine_clips))
    assert "version 2" in run("--remove", "new")
    for wrong in ((), ("--list", "--remove", "new"), ("--source", "new")):
        with pytest.raises(InputError, match="say one of"):
            run(*wrong)
