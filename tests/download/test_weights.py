"""Pretrained weights: fetched, made safetensors once, and read by the network that wants them."""

import os
import pickle

import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining, Wav2Vec2Model

from download.conftest import files
from earmark import InputError
from earmark.cli import download as command
from earmark.download import plan as plans
from earmark.download.catalogue import Catalogue, File, Known
from earmark.download.fetch import fetch
from earmark.networks.wav2vec2 import TappedWav2Vec2, configuration
from earmark.params import EncoderParams
from object_store import BUCKET

SIZES = {
    "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 3, "conv_dim": (8,) * 7, "codevector_dim": 8,
    "proj_codevector_dim": 8, "num_codevectors_per_group": 4, "do_stable_layer_norm": True, "feat_extract_norm": "layer",
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """As XLS-R is published: a model for pretraining in pytorch_model.bin, its positions' weights by their older names."""
    torch.manual_seed(3)
    model, folder = Wav2Vec2ForPreTraining(Wav2Vec2Config(**SIZES)).eval(), tmp_path_factory.mktemp("published")
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    tensors = {}
    for name, tensor in model.state_dict().items():
        for new, known in old.items():
            name = name.replace(new, known)
        tensors[name] = tensor
    tensors["alias"] = tensors["project_q.bias"]  # one tensor by two names, which safetensors refuses as they are
    torch.save(tensors, folder / "pytorch_model.bin")
    model.config.save_pretrained(folder)
    return model.wav2vec2, folder


@pytest.fixture
def known(monkeypatch, web):
    """The catalogue, with files of a folder as the weights `tiny`."""

    def make(folder) -> str:
        found = tuple(File(address=web.put(name, (folder / name).read_bytes())) for name in ("pytorch_model.bin", "config.json"))
        weights = Known(title="Tiny", licence="Apache-2.0", homepage="https://example.org", files=found)
        for module in (plans, command):
            monkeypatch.setattr(module, "catalogue", lambda: Catalogue(corpora={}, weights={"tiny": weights}))
        return "tiny"

    return make


def test_weights_become_a_folder_that_the_encoder_reads(published, known, params, tmp_path):
    model, folder = published
    record = fetch(known(folder), tmp_path / "tiny", params)
    assert set(files(tmp_path / "tiny")) == {"config.json", "model.safetensors"}
    assert record["licence"] == "Apache-2.0"
    loaded = Wav2Vec2Model.from_pretrained(tmp_path / "tiny")
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=0, rtol=0)
    encoder = EncoderParams(pretrained=str(tmp_path / "tiny"), taps=(1, 2, 3))
    network = TappedWav2Vec2(configuration(encoder, 3), encoder.taps)
    network.load_pretrained(encoder)
    waveform = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    standard = (waveform - waveform.mean()) / waveform.std(correction=0)
    with torch.no_grad():
        states = model(standard, output_hidden_states=True).hidden_states
        torch.testing.assert_close(network.eval()(waveform)[1], states[2], atol=1e-5, rtol=1e-5)


def test_weights_have_the_same_bytes_twice(published, known, params, tmp_path):
    for name in ("one", "two"):
        fetch(known(published[1]), tmp_path / name, params)
    assert files(tmp_path / "one") == files(tmp_path / "two")


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/earmark-evil",)


@pytest.mark.parametrize("content", [Evil(), {"a": 1}, [torch.zeros(1)]], ids=["code", "no tensors", "no names"])
def test_a_pickle_of_anything_else_than_tensors_is_refused(published, known, params, tmp_path, content):
    torch.save(content, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_bytes((published[1] / "config.json").read_bytes())
    with pytest.raises(InputError, match=r"pytorch_model\.bin: holds"):
        fetch(known(tmp_path), tmp_path / "tiny", params)
    assert not os.path.exists("/tmp/earmark-evil")
    assert not (tmp_path / "tiny").exists()
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match=r"pytorch_model\.bin: holds"):
        fetch(known(tmp_path), tmp_path / "other", params)
    assert not os.path.exists("/tmp/earmark-evil")


def test_weights_are_mirrored_to_an_object_store_and_fetched_from_there(published, known, params, tmp_path, bucket, s3, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = known(published[1])
    for _ in range(2):  # the second time there is nothing to do
        command.download([], [name], f"{bucket}/models", params, tmp_path / "data")
    assert sorted(s3.stored()) == [f"models/tiny/{file}" for file in ("config.json", "download.json", "model.safetensors")]
    record = fetch(f"{bucket}/models/tiny", tmp_path / "again", params)
    assert files(tmp_path / "again") == files(tmp_path / "weights/tiny")
    assert record["licence"] == "Apache-2.0"
    s3.client.put_object(Bucket=BUCKET, Key="models/tiny/download.json", Body=b"{}")
    with pytest.raises(InputError, match="models/tiny holds another source"):
        command.download([], [name], f"{bucket}/models", params, tmp_path / "data")


def test_weights_go_to_a_folder_and_unknown_names_are_refused(published, known, params, tmp_path):
    name = known(published[1])
    command.download([], [name], str(tmp_path / "volume"), params, tmp_path / "data")
    assert (tmp_path / "volume/tiny/model.safetensors").exists()
    with pytest.raises(InputError, match="--weights none: not known; known are tiny"):
        command.download([], ["none"], None, params, tmp_path)
    with pytest.raises(InputError, match="--to gs://a: name a folder or s3://"):
        command.download([], [name], "gs://a", params, tmp_path)
    with pytest.raises(InputError, match="two of the sources would go to one folder"):
        command.download([], [name, name], str(tmp_path / "more"), params, tmp_path)
