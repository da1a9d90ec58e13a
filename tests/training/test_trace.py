import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from earmark import InputError, stages
from earmark.corpora.sources import Rows
from earmark.networks.classifier import Classifier
from earmark.params import TracerParams
from earmark.stages import ARTIFACTS
from earmark.storage import checkpoint
from earmark.storage.files import read_table, write_table
from earmark.training.batches import count_pairs, draw_batches

MEMBERS = ARTIFACTS["members"]
CONFORMER_ALONE = {"members": {"aasist": None, "lfcc_gmm": None}}


@pytest.fixture
def traced(done: Path, tmp_path: Path) -> Path:
    """A fresh copy of the workspace in which all stages have run."""
    return Path(shutil.copytree(done, tmp_path / "traced"))


def edit(workspace: Path, change) -> None:
    """Change the protocol of a workspace."""
    path = workspace / ARTIFACTS["protocol"]
    write_table(path, change(read_table(path)))


def test_every_member_is_trained_and_says_what_it_is(done, tiny):
    for name, member in tiny.tracer.members.items():
        tensors, meta = checkpoint.load(done / MEMBERS / f"{name}.safetensors")
        assert meta["sources"] == ["engine0", "engine1"]  # copies are no sources
        assert meta["member"]["kind"] == member.kind
        assert 0 <= meta["figures"]["dev/error"] <= 1
        if member.kind != "lfcc_gmm":
            Classifier(60 if member.reads == "lfcc" else tiny.cqt.bins, member, 2).load_state_dict(tensors)
            history = pd.read_csv(done / MEMBERS / f"{name}.csv")
            assert {"cross_entropy", "regmixup", "n_pair", "dev/error"} <= set(history)
    left = {path.name for path in (done / MEMBERS).iterdir()}
    assert left == {"conformer.csv", "conformer.safetensors", "aasist.csv", "aasist.safetensors", "lfcc_gmm.safetensors"}


def test_a_finished_member_is_kept_and_a_changed_one_alone_is_trained_again(traced, tiny, change):
    files = {name: traced / MEMBERS / f"{name}.safetensors" for name in tiny.tracer.members}
    before = {name: file.stat().st_mtime_ns for name, file in files.items()}
    again = stages.run("train_tracer", change(tracer={"members": {"aasist": {"dropout": 0.2}}}), traced)
    changed = {name for name, file in files.items() if file.stat().st_mtime_ns != before[name]}
    assert changed == {"aasist"}
    assert {name.split("/")[0] for name in again} == set(files)


def test_the_same_seed_trains_the_same_member_to_the_bit(traced, tiny):
    for name in tiny.tracer.members:
        file = traced / MEMBERS / f"{name}.safetensors"
        before = file.read_bytes()
        file.unlink()
        stages.run("train_tracer", tiny, traced)
        assert file.read_bytes() == before


@pytest.mark.parametrize("switch", [{"emphasis": {"enabled": False}}, {"dispersion": {"regmixup": 0.0}}, {"dispersion": {"n_pair": 0.0}}])
def test_every_switch_makes_another_tracer(traced, change, switch):
    before = checkpoint.load(traced / MEMBERS / "conformer.safetensors")[0]
    stages.run("train_tracer", change(tracer=CONFORMER_ALONE | switch), traced)
    after = checkpoint.load(traced / MEMBERS / "conformer.safetensors")[0]
    assert not np.array_equal(before["head.weight"].numpy(), after["head.weight"].numpy())


def test_copies_are_sources_where_that_is_asked_for(traced, change):
    stages.run("train_tracer", change(tracer=CONFORMER_ALONE | {"copies_are_sources": True}), traced)
    assert checkpoint.load(traced / MEMBERS / "conformer.safetensors")[1]["sources"] == ["codec_mp3", "engine0", "engine1"]


def test_other_corpora_bring_bona_fide_speech_and_no_sources(traced, change):
    def two_corpora(table):
        table.loc[table["source"] == "codec_mp3", ["copied", "corpus"]] = [False, "other"]
        table.loc[(table["key"] == "bonafide"), "corpus"] = "other"
        return table

    edit(traced, two_corpora)
    stages.run("train_tracer", change(tracer=CONFORMER_ALONE | {"corpora": ["tiny"]}), traced)
    assert checkpoint.load(traced / MEMBERS / "conformer.safetensors")[1]["sources"] == ["engine0", "engine1"]
    with pytest.raises(InputError, match=r"tracer\.corpora: there is no corpus mlaad; there are other, tiny"):
        stages.run("train_tracer", change(tracer={"corpora": ["mlaad"]}), traced)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (lambda t: (t["source"] != "engine1") | (t["split"] != "train"), "two sources in train, there is only engine0"),
        (lambda t: (t["split"] != "dev") | (t["key"] == "bonafide"), "dev has no utterance of a source of train"),
        (lambda t: (t["split"] != "train") | (t["key"] == "spoof"), "needs bona fide speech in train and dev"),
    ],
)
def test_what_tracing_lacks_is_said(traced, tiny, keep, message):
    edit(traced, lambda table: table[keep(table)])
    with pytest.raises(InputError, match=message):
        stages.run("train_tracer", tiny, traced)


def test_without_members_there_is_no_tracing_and_the_rest_goes_through(traced, change):
    settings = change(tracer={"members": {}})
    for name in ("members", "embeddings", "answers"):
        shutil.rmtree(traced / ARTIFACTS[name])
    for name in ("train_tracer", "embed_utterances"):
        assert stages.run(name, settings, traced) == {}
    assert set(stages.run("fit_ensemble", settings, traced)) == {f"weight/detector/{name}" for name in settings.detector.members}
    assert not any("tracing" in name for name in stages.run("evaluate", settings, traced))


def test_a_batch_begins_with_anchors_and_their_positives():
    labels = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    batches = draw_batches(labels, 40, 8, 3, np.random.default_rng(0))
    for batch in batches:
        anchors, positives = batch[:3], batch[3:6]
        assert len(batch) == 8
        assert (labels[anchors] == labels[positives]).all()
        assert len(set(labels[anchors])) == 3
        assert not set(anchors) & set(positives)
    assert {label for batch in batches for label in labels[batch[:3]]} == {0, 1, 3}  # source 2 has one utterance
    plain = np.concatenate([batch[6:] for batch in batches])
    assert (np.bincount(plain[:8], minlength=8) == 1).all()


def test_sources_with_one_utterance_are_named(caplog):
    rows = Rows([str(n) for n in range(6)], np.array([0, 0, 1, 2, 2, 2]))
    with caplog.at_level(logging.WARNING):
        assert count_pairs(rows, ("a", "b", "c"), TracerParams.model_validate({"training": {"batch_size": 6}})) == 2
    assert "one utterance: b" in caplog.text
    assert count_pairs(rows, ("a", "b", "c"), TracerParams.model_validate({"dispersion": {"n_pair": 0.0}})) == 0


def test_a_member_that_is_not_there_is_named_with_those_that_are(traced, tiny):
    with pytest.raises(InputError, match=r"--member lstm: tracer\.members has conformer, aasist, lfcc_gmm"):
        stages.run("train_tracer", tiny, traced, member="lstm")
