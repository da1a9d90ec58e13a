import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from earmark import InputError, stages
from earmark.networks.wav2vec2 import TappedWav2Vec2, configuration
from earmark.params import CqtFrontEndParams, Wav2Vec2FrontEndParams
from earmark.scoring.front_end import HOP, FrontEnd, precompute
from earmark.storage.files import read_table

HIDDEN = Wav2Vec2FrontEndParams(pretrained=None, hidden=16, heads=2, conv_width=8, layer=2)


@pytest.fixture(scope="module")
def hidden(features, tiny, tmp_path_factory):
    """Features of the tiny corpus from two random layers."""
    folder = tmp_path_factory.mktemp("hidden")
    precompute(HIDDEN, tiny.compute, features, folder)
    return folder


def whole(features, name: str) -> torch.Tensor:
    torch.manual_seed(0)
    network = TappedWav2Vec2(configuration(HIDDEN, 2), (2,)).eval()
    with torch.no_grad():
        return network(torch.from_numpy(features.waveform(name))[None])[0][0]


def test_what_is_kept_is_what_the_network_says_of_the_whole_utterance(features, tiny, hidden):
    clips = FrontEnd(HIDDEN, features, tiny.audio, tiny.cqt, hidden)
    assert clips.width == 16
    for name in features.usable.index[::7]:
        expected = whole(features, name)
        found, label = clips[name, 0, 3]
        assert label == 3
        torch.testing.assert_close(found, expected[: len(found)], atol=2e-3, rtol=1e-2)  # float16


def test_a_clip_s_frames_begin_where_its_samples_do(features, tiny, hidden):
    clips = FrontEnd(HIDDEN, features, tiny.audio, tiny.cqt, hidden)
    longest = str(features.usable["samples"].idxmax())
    start = int(features.usable.at[longest, "samples"] - tiny.audio.clip_samples) // HOP * HOP
    everything = whole(features, longest)
    first = min(start // HOP, len(everything) - clips.frames)
    torch.testing.assert_close(clips[longest, start, 0][0], everything[first : first + clips.frames], atol=2e-3, rtol=1e-2)


def test_pieces_join_on_one_grid(features, tiny, tmp_path, hidden):
    """A frame's position in the file is what counts; what it hears beyond its piece is lost, which is what pieces cost."""
    params = HIDDEN.model_copy(update={"chunk_seconds": 1.0})
    precompute(params, tiny.compute, features, tmp_path)
    counts = [read_table(next(folder.glob("*.parquet"))).set_index("utterance_id")["frames"] for folder in (hidden, tmp_path)]
    assert counts[0].equals(counts[1])
    longest = str(features.usable["samples"].idxmax())
    one, other = (FrontEnd(p, features, tiny.audio, tiny.cqt, f)[longest, 0, 0][0] for p, f in ((HIDDEN, hidden), (params, tmp_path)))
    assert torch.nn.functional.cosine_similarity(one, other).mean() > 0.8


def test_workers_share_shards_and_what_is_there_is_kept(features, tiny, tmp_path, hidden):
    assert features.usable["shard"].nunique() > 1
    counts = [precompute(HIDDEN, tiny.compute, features, tmp_path, f"{worker}/2") for worker in (1, 2)]
    assert sum(counts) == features.usable["shard"].nunique()
    files = {path.name: path for path in hidden.iterdir()}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: path.read_bytes() for name, path in files.items()}
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    precompute(HIDDEN, tiny.compute, features, tmp_path)
    assert before == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    precompute(HIDDEN.model_copy(update={"layer": 1}), tiny.compute, features, tmp_path)
    assert all(before[path.name] != path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors"))


def test_what_is_lacking_is_said(features, tiny, tmp_path):
    with pytest.raises(InputError, match="run precompute_front_end first"):
        FrontEnd(HIDDEN, features, tiny.audio, tiny.cqt, tmp_path)
    precompute(HIDDEN, tiny.compute, features, tmp_path, "1/2")
    with pytest.raises(InputError, match=r"lacks \d+ utterances, first .*: run precompute_front_end for all shards"):
        FrontEnd(HIDDEN, features, tiny.audio, tiny.cqt, tmp_path)


def test_the_cqt_front_end_is_the_stored_cqt(features, tiny, tmp_path):
    assert precompute(CqtFrontEndParams(), tiny.compute, features, tmp_path / "none") == 0
    name = str(features.usable["samples"].idxmax())
    for phase, planes in (("none", 1), ("angle", 2), ("cos_sin", 3)):
        clips = FrontEnd(CqtFrontEndParams(phase=phase), features, tiny.audio, tiny.cqt, tmp_path)
        found, _ = clips[name, 10 * tiny.cqt.hop_samples, 0]
        assert found.shape == (clips.frames, clips.width) == (49, planes * tiny.cqt.bins)
        magnitude = features.cqt(name, 10, 49)[0].astype(np.float32).T
        assert np.corrcoef(found[:, : tiny.cqt.bins].numpy().ravel(), magnitude.ravel())[0, 1] > 0.999


def test_a_tracer_learns_from_hidden_features_through_the_stages(done, change, tmp_path):
    workspace = Path(shutil.copytree(done, tmp_path / "run"))
    settings = change(
        front_end={"kind": "wav2vec2", "pretrained": None, "hidden": 16, "heads": 2, "conv_width": 8, "layer": 1},
        tracer={"members": {"aasist": None, "lfcc_gmm": None}},
    )
    for name in ("precompute_front_end", "train_tracer", "embed_utterances", "fit_ensemble"):
        metrics = stages.run(name, settings, workspace)
    assert metrics["weight/conformer"] == 1
