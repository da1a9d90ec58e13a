import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from earmark import InputError, stages
from earmark.features.clips import Clips, windows
from earmark.features.shards import Features
from earmark.networks.compute import processor
from earmark.networks.detector import load_detector, save_detector
from earmark.scoring.windows import Scored, read_scores, score
from earmark.storage.files import read_metadata, read_table, write_table

DETECTOR, SCORES, PROTOCOL = (stages.ARTIFACTS[name] for name in ("detectors", "scores", "protocol"))
WAVESPEC = "wavespec"


@pytest.fixture
def trained(done, tmp_path) -> Path:
    """A workspace with a detector and no scores."""
    workspace = Path(shutil.copytree(done, tmp_path / "trained"))
    shutil.rmtree(workspace / SCORES)
    return workspace


def means(scored: Scored) -> pd.Series:
    """WaveSpec's scores by utterance."""
    values = np.bincount(scored.owners, scored.scores[WAVESPEC]) / np.bincount(scored.owners)
    return pd.Series(values, index=scored.utterances)


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_all_of_dev_and_eval_is_scored_once_and_a_sample_of_train(done, protocol, tiny):
    found = read_scores(done / SCORES)
    scores = pd.DataFrame({"utterance_id": found.utterances})
    train = protocol[(protocol["split"] == "train") & protocol["utterance_id"].isin(scores["utterance_id"])]
    assert len(train) == tiny.scoring.train_sample
    assert set(train["key"]) == {"bonafide", "spoof"}
    expected = [*protocol.loc[protocol["split"].isin(["dev", "eval"]), "utterance_id"], *train["utterance_id"]]
    assert sorted(scores["utterance_id"]) == sorted(expected)
    assert list(found.scores) == list(tiny.detector.members)
    assert all(np.isfinite(values).all() and len(values) == len(found.owners) for values in found.scores.values())
    widths = {name: vectors.shape for name, vectors in found.embeddings.items()}
    assert widths == {name: (len(expected), width) for name, width in {"wavespec": 16, "linear": 16, "lfcc_gmm": 60}.items()}


def test_score_files_say_which_way_is_up_and_which_detector_made_them(done):
    for path in (done / SCORES).glob("*.parquet"):
        assert read_metadata(path)["orientation"] == "cm_score: higher = more bona fide"
        made = json.loads(read_metadata(path)["detectors"])
        assert {name: len(digest) for name, digest in made.items()} == {"wavespec": 64, "linear": 64, "lfcc_gmm": 64}


@pytest.mark.parametrize("member", ["wavespec", "linear", "lfcc_gmm"])
def test_a_member_scores_every_window_of_an_utterance(done, protocol, tiny, member):
    network, _ = load_detector(done / DETECTOR / f"{member}.safetensors")
    features = Features(done / stages.ARTIFACTS["features"])
    scored = read_scores(done / SCORES)
    clips = Clips(features, tiny.audio, tiny.cqt, network.view)
    for row, name in list(enumerate(scored.utterances))[::3]:
        rows = protocol[protocol["utterance_id"] == name]
        views = [clips[item[0], item[1], 0] for item in windows(rows, features.index, tiny.audio, tiny.cqt)]
        with torch.no_grad():
            found = [network(waveform[None], cqt[None]) for waveform, cqt, _ in views]
        own = scored.scores[member][scored.owners == row]
        np.testing.assert_allclose(own, [one.cm_score.item() for one in found], atol=1e-4)
        np.testing.assert_allclose(scored.embeddings[member][row], np.mean([one.embedding[0].numpy() for one in found], axis=0), atol=1e-4)
    assert np.bincount(scored.owners).max() > 5


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_batch_changes_no_score(done, protocol, tiny, batch):
    network, _ = load_detector(done / DETECTOR / "wavespec.safetensors")
    features = Features(done / stages.ARTIFACTS["features"])
    rows = protocol[protocol["split"] == "eval"].sample(frac=1, random_state=batch)
    found = score(network, features, rows, tiny.audio, tiny.cqt, batch, processor(tiny.compute))
    assert list(found["utterance_id"]) == list(rows["utterance_id"])
    expected = means(read_scores(done / SCORES))
    np.testing.assert_allclose(found["cm_score"], expected[found["utterance_id"]], atol=1e-5)


def test_workers_together_write_what_one_writes(done, trained, tiny):
    assert stages.run("score_detector", tiny, trained, shard="2/2")["complete"] == 0
    with pytest.raises(InputError, match=r"holds \d+ of \d+ parts: run score_detector for all shards"):
        read_scores(trained / SCORES)
    assert stages.run("score_detector", tiny, trained, shard="1/2")["complete"] == 1
    assert parts(trained / SCORES) == parts(done / SCORES)


def test_an_interrupted_job_goes_on_and_makes_only_what_is_lacking(done, trained, tiny):
    stages.run("score_detector", tiny, trained)
    folder = trained / SCORES
    whole, kept = parts(folder), sorted(folder.glob("[0-9]*"))
    assert len(kept) > 2
    kept[0].unlink()
    kept[1].write_bytes(kept[1].read_bytes()[:100])
    before = kept[2].stat().st_mtime_ns
    stages.run("score_detector", tiny, trained)
    assert parts(folder) == whole == parts(done / SCORES)
    assert kept[2].stat().st_mtime_ns == before


def test_scores_of_another_detector_are_made_anew(trained, tiny):
    stages.run("score_detector", tiny, trained)
    before = means(read_scores(trained / SCORES))
    path = trained / DETECTOR / "wavespec.safetensors"
    network, meta = load_detector(path)
    with torch.no_grad():
        network.classifier.bias += torch.tensor([0.0, 2.0])
    save_detector(path, network, meta)
    stages.run("score_detector", tiny, trained)
    after = means(read_scores(trained / SCORES))
    np.testing.assert_allclose(after, before + 2, atol=1e-5)


def test_a_member_that_is_left_out_is_in_no_score_any_more(trained, change):
    settings = change(detector={"members": {"linear": None}})
    stages.run("score_detector", settings, trained)
    shutil.rmtree(trained / "artifacts/ensemble")
    assert list(read_scores(trained / SCORES).scores) == ["wavespec", "lfcc_gmm"]
    assert set(stages.run("fit_ensemble", settings, trained)) >= {"weight/detector/wavespec", "weight/detector/lfcc_gmm"}


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("cqt", "bins", 60), ("cqt", "floor", 1e-4), ("audio", "level_dbfs", -20.0), ("audio", "clip_samples", 8000)],
)
def test_a_detector_trained_with_other_views_is_refused(trained, change, section, key, value):
    with pytest.raises(InputError, match=rf"was trained with {section}\.{key} .*, params say {value}: train again or restore params"):
        stages.run("score_detector", change(**{section: {key: value}}), trained)
    assert not (trained / SCORES).exists()


def test_another_backend_of_the_same_transform_is_no_other_view(trained, change):
    stages.run("score_detector", change(cqt={"backend": "nnaudio"}), trained)


def test_eval_reaches_neither_training_nor_the_choice_of_the_epoch(done, workspace, tiny):
    """With the keys of eval turned round and its rows halved the detector has the same bytes."""
    table = read_table(workspace / PROTOCOL)
    in_eval = (table["split"] == "eval").to_numpy()
    table.loc[in_eval, "key"] = table.loc[in_eval, "key"].map({"bonafide": "spoof", "spoof": "bonafide"})
    write_table(workspace / PROTOCOL, table.drop(index=np.flatnonzero(in_eval)[::2]))
    stages.run("train_detector", tiny, workspace)
    for name in ("wavespec.safetensors", "wavespec.csv", "linear.safetensors", "lfcc_gmm.safetensors"):
        assert (workspace / DETECTOR / name).read_bytes() == (done / DETECTOR / name).read_bytes()


def test_keys_do_not_reach_scoring(done, trained, tiny):
    table = read_table(trained / PROTOCOL)
    write_table(trained / PROTOCOL, table.assign(key="bonafide", source=None))
    stages.run("score_detector", tiny, trained)
    pd.testing.assert_series_equal(*(means(read_scores(place / SCORES)) for place in (done, trained)))


def test_a_corrupt_or_missing_detector_is_named(trained, tiny):
    path = trained / DETECTOR / "wavespec.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"wavespec\.safetensors is corrupt"):
        stages.run("score_detector", tiny, trained)
    path.unlink()
    with pytest.raises(InputError, match=r"wavespec\.safetensors does not exist: run the stage that makes it"):
        stages.run("score_detector", tiny, trained)
