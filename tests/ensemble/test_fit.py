"""What members say of utterances, and what is fitted to it, from stored features to tables."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from earmark import InputError, stages
from earmark.ensemble.fusion import FILE, FUSION, load
from earmark.features.clips import windows
from earmark.scoring.embedding import load_member, set_up
from earmark.scoring.outputs import read_outputs
from earmark.stages import ARTIFACTS
from earmark.storage import checkpoint
from earmark.storage.files import read_metadata, read_table, write_table

EMBEDDINGS, ANSWERS = Path(ARTIFACTS["embeddings"]), Path(ARTIFACTS["answers"])


@pytest.fixture
def embedded(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "run"))


def test_all_spoofs_with_a_source_are_embedded_once_and_no_copy(done, protocol):
    ids, outputs, sources = read_outputs(done / EMBEDDINGS)
    expected = protocol[(protocol["key"] == "spoof") & ~protocol["copied"]]["utterance_id"]
    assert sorted(ids) == sorted(expected)
    assert sources == ("engine0", "engine1")
    assert {name: (found.logits.shape[1], found.embeddings.shape[1]) for name, found in outputs.items()} == {
        "conformer": (2, 16),
        "aasist": (2, 30),
        "lfcc_gmm": (2, 2),
    }


def test_an_utterance_s_logits_are_the_mean_over_its_windows(done, protocol, features, tiny):
    setup = set_up(tiny.audio, tiny.cqt, tiny.front_end, tiny.tracer, tiny.compute, features.folder, done / ARTIFACTS["hidden"])
    member, _ = load_member(done / ARTIFACTS["members"] / "conformer.safetensors", setup.sections)
    ids, outputs, _ = read_outputs(done / EMBEDDINGS)
    for row, name in list(enumerate(ids))[::5]:
        one = protocol[protocol["utterance_id"] == name]
        views = [setup.clips_of(member.params)[item[0], item[1], 0][0] for item in windows(one, features.index, tiny.audio, tiny.cqt)]
        with torch.no_grad():
            found = [member.network(view[None]) for view in views]
        for part, stored in (("logits", outputs["conformer"].logits), ("embedding", outputs["conformer"].embeddings)):
            np.testing.assert_allclose(stored[row], np.mean([getattr(one, part)[0].numpy() for one in found], axis=0), atol=1e-5)


def test_two_workers_make_what_one_makes(embedded, tiny):
    before = {path.name: path.read_bytes() for path in (embedded / EMBEDDINGS).iterdir()}
    shutil.rmtree(embedded / EMBEDDINGS)
    first = stages.run("embed_utterances", tiny, embedded, shard="1/2")
    assert not first["complete"]
    assert stages.run("embed_utterances", tiny, embedded, shard="2/2")["complete"]
    assert before == {path.name: path.read_bytes() for path in (embedded / EMBEDDINGS).iterdir()}


def test_parts_that_are_there_are_kept_and_those_of_other_members_are_made_again(embedded, tiny, change):
    times = {path.name: path.stat().st_mtime_ns for path in (embedded / EMBEDDINGS).iterdir()}
    stages.run("embed_utterances", tiny, embedded)
    assert times == {path.name: path.stat().st_mtime_ns for path in (embedded / EMBEDDINGS).iterdir()}
    fewer = change(tracer={"members": {"aasist": None}})
    stages.run("embed_utterances", fewer, embedded)
    assert set(read_outputs(embedded / EMBEDDINGS)[1]) == {"conformer", "lfcc_gmm"}
    with pytest.raises(InputError, match="has members conformer, lfcc_gmm, params have conformer, aasist, lfcc_gmm: run embed_utterances"):
        stages.run("fit_ensemble", tiny, embedded)


def test_answers_are_of_dev_and_eval_and_say_which_way_is_up(done, protocol):
    answers = read_table(done / ANSWERS / "answers.parquet")
    asked = protocol[(protocol["key"] == "spoof") & ~protocol["copied"] & (protocol["split"] != "train")]
    assert sorted(answers["utterance_id"]) == sorted(asked["utterance_id"])
    assert set(answers["source"]) <= {"engine0", "engine1"}
    assert np.isfinite(answers["ood_score"]).all()
    posterior = np.stack(answers["posterior"].to_list())
    assert posterior.shape == (len(answers), 3)
    np.testing.assert_allclose(posterior.sum(1), 1)
    for name in ("answers", "systems"):
        assert read_metadata(done / ANSWERS / f"{name}.parquet")["orientation"] == "ood_score: higher = more likely unseen"
    assert load(done / ANSWERS / FILE).sources == ("engine0", "engine1")


def test_every_ablation_of_the_fusion_answers_every_utterance(done):
    systems = read_table(done / ANSWERS / "systems.parquet")
    names = [FUSION, "score fusion", "embedding fusion", "conformer", "aasist", "lfcc_gmm"]
    assert list(dict.fromkeys(systems["system"])) == names
    assert systems.groupby("system")["utterance_id"].nunique().nunique() == 1
    fused = systems[systems["system"].isin([FUSION, "score fusion"])].groupby("system")["source"].apply(list)
    assert fused[FUSION] == fused["score fusion"]  # scores alone name the sources


def test_members_of_other_params_or_other_sources_are_refused(embedded, tiny, change):
    with pytest.raises(InputError, match=r"conformer\.safetensors was trained with cqt\.bins 84, params say 72"):
        stages.run("embed_utterances", change(cqt={"bins": 72}), embedded)
    path = embedded / ARTIFACTS["members"] / "aasist.safetensors"
    tensors, meta = checkpoint.load(path)
    checkpoint.save(path, tensors, meta | {"sources": ["engine0", "other"]})
    with pytest.raises(InputError, match=r"conformer and aasist differ in sources \(engine1, other\)"):
        stages.run("embed_utterances", tiny, embedded)


def test_a_corpus_of_spoofs_alone_is_traced_and_nothing_else_is_said_of_it(embedded, tiny, caplog):
    path = embedded / ARTIFACTS["protocol"]
    table = read_table(path)
    write_table(path, table[(table["split"] != "eval") | (table["key"] == "spoof")])
    metrics = stages.run("evaluate", tiny, embedded)
    assert "tiny: no bona fide trial, so only tracing is reported on" in caplog.text
    assert metrics
    assert all(name.startswith("tiny/tracing/") for name in metrics)
    assert (embedded / ARTIFACTS["evaluation"] / "det.csv").read_text() == "corpus,threshold,false_alarm,miss\n"


def test_parts_of_several_runs_are_refused(embedded, tiny):
    part = next((embedded / EMBEDDINGS).glob("*.parquet"))
    write_table(part, read_table(part), members="others", sources=json.dumps(["engine0", "engine1"]))
    with pytest.raises(InputError, match="were made by different models: run embed_utterances again"):
        stages.run("fit_ensemble", tiny, embedded)
