import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2Config, Wav2Vec2Model

from earmark import InputError
from earmark.features.clips import clip_frames
from earmark.networks.wav2vec2 import TappedWav2Vec2, Wav2Vec2, configuration
from earmark.networks.wav2vec2_layers import Configuration
from earmark.params import EncoderParams

TINY = {"hidden": 16, "heads": 2, "conv_width": 8, "taps": (1, 2, 3)}
WAVEFORM = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))


def standardise(waveform: torch.Tensor) -> torch.Tensor:
    return (waveform - waveform.mean(-1, keepdim=True)) / waveform.std(-1, keepdim=True, correction=0)


def full(layers: int = 5, stable: bool = True) -> Wav2Vec2Model:
    """A whole model of random weights, with the disturbances that are on by default."""
    torch.manual_seed(4)
    config = Wav2Vec2Config(
        hidden_size=16, num_attention_heads=2, intermediate_size=64, num_hidden_layers=layers, conv_dim=(8,) * 7,
        do_stable_layer_norm=stable, feat_extract_norm="layer", num_conv_pos_embeddings=64, num_conv_pos_embedding_groups=16,
        layerdrop=0.5, mask_time_prob=0.3,
    )  # fmt: skip
    return Wav2Vec2Model(config).eval()


@pytest.fixture(scope="module", params=[True, False], ids=["stable", "post_norm"])
def published(request, tmp_path_factory):
    """A model and the folder it was saved to."""
    model, folder = full(stable=request.param), tmp_path_factory.mktemp("published")
    model.save_pretrained(folder)
    return model, folder


def tapped(**settings) -> TappedWav2Vec2:
    torch.manual_seed(1)
    params = EncoderParams(**{"pretrained": None, **TINY, **settings})
    network = TappedWav2Vec2(configuration(params, params.taps[-1], params.dropout), params.taps)
    if params.pretrained:
        network.load_pretrained(params)
    return network


@pytest.mark.parametrize("taps", [(1, 2, 3), (1, 3, 5), (2, 3, 4)])
def test_taps_of_pretrained_weights_equal_the_hidden_states_of_the_whole_model(published, taps):
    model, folder = published
    network = tapped(pretrained=str(folder), taps=taps).eval()
    with torch.no_grad():
        states = model(standardise(WAVEFORM), output_hidden_states=True).hidden_states
        found = network(WAVEFORM)
    for tap, feature in zip(taps, found, strict=True):
        if tap < 5:  # the whole model's own last state has gone through one more norm
            torch.testing.assert_close(feature, states[tap], atol=1e-5, rtol=1e-5)
    assert len(network.model.encoder.layers) == taps[-1]


def test_convolutions_without_a_gradient_are_those_with_one(published):
    _, folder = published
    network = tapped(pretrained=str(folder)).eval()
    with_gradient = network(WAVEFORM)
    with torch.no_grad():
        for quick, plain in zip(network(WAVEFORM), with_gradient, strict=True):
            torch.testing.assert_close(quick, plain, atol=1e-5, rtol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(network(WAVEFORM)[0].float(), with_gradient[0], atol=0.1, rtol=0.1)


def test_no_tap_goes_through_the_norm_after_the_last_layer():
    """A tap after the last layer equals the same tap of a deeper model."""
    whole = full(5)
    network = tapped(taps=(1, 2, 5))
    network.model.load_state_dict({name: tensor for name, tensor in whole.state_dict().items() if name in network.model.state_dict()})
    outputs = []
    whole.encoder.layers[4].register_forward_hook(lambda module, inputs, output: outputs.append(output))
    with torch.no_grad():
        whole(standardise(WAVEFORM))
        last = network.eval()(WAVEFORM)[-1]
    state = outputs[0][0] if isinstance(outputs[0], tuple) else outputs[0]
    torch.testing.assert_close(last, state, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stable", [True, False], ids=["stable", "post_norm"])
@pytest.mark.parametrize("norm", ["layer", "group"])
def test_random_weights_and_what_they_give_are_transformers_to_the_bit(norm, stable):
    shape = {
        "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 64, "num_hidden_layers": 2, "conv_dim": (8,) * 7,
        "do_stable_layer_norm": stable, "feat_extract_norm": norm, "conv_bias": stable, "num_conv_pos_embeddings": 64,
        "feat_proj_dropout": 0.1,
    }  # fmt: skip
    torch.manual_seed(3)
    theirs = Wav2Vec2Model(Wav2Vec2Config(**shape, layerdrop=0.0, mask_time_prob=0.0, apply_spec_augment=False)).train()
    torch.manual_seed(3)
    own = Wav2Vec2(Configuration(**shape)).train()
    weights = {name: tensor for name, tensor in theirs.state_dict().items() if not (stable and name.startswith("encoder.layer_norm"))}
    torch.testing.assert_close(dict(own.state_dict()), weights, atol=0, rtol=0)
    torch.manual_seed(5)  # of all its dropouts
    states = theirs(WAVEFORM, output_hidden_states=True).hidden_states
    torch.manual_seed(5)
    for found, expected in zip(own(WAVEFORM)[:-1], states[:-1], strict=True):
        torch.testing.assert_close(found, expected, atol=0, rtol=0)


@pytest.mark.parametrize("other", [{"hidden_act": "relu"}, {"add_adapter": True}])
def test_a_configuration_that_is_not_computed_here_is_refused(other):
    with pytest.raises(InputError, match=next(iter(other))):
        Configuration.of(other)


def test_without_dropout_training_and_evaluation_give_the_same_features(published):
    """So nothing hides frames or drops layers, as published configurations ask for."""
    for network in (tapped(dropout=0.0), tapped(pretrained=str(published[1]), dropout=0.0)):
        torch.testing.assert_close(network.train()(WAVEFORM), network.eval()(WAVEFORM), atol=0, rtol=0)
    dropping = tapped(dropout=0.3)
    assert not torch.allclose(dropping.train()(WAVEFORM)[0], dropping(WAVEFORM)[0])


def test_dropout_of_params_rules_over_that_of_the_published_configuration(published):
    config = tapped(pretrained=str(published[1]), dropout=0.0).model.config
    assert (config.hidden_dropout, config.attention_dropout, config.activation_dropout, config.feat_proj_dropout) == (0, 0, 0, 0)


def test_level_and_offset_of_the_waveform_change_nothing():
    network = tapped().eval()
    torch.testing.assert_close(network(0.01 * WAVEFORM + 0.3), network(WAVEFORM), atol=2e-3, rtol=1e-3)


def test_frames_are_those_that_a_clip_counts_on():
    network = tapped().eval()
    for samples in (4000, 16_000, 64_600):
        assert [feature.shape for feature in network(torch.randn(1, samples))] == [(1, clip_frames(samples), 16)] * 3
    assert clip_frames(64_600) == 201


def test_batch_mates_change_nothing():
    network = tapped().eval()
    mate = torch.cat((WAVEFORM[:1], 100 * WAVEFORM[1:]))
    torch.testing.assert_close(network(mate)[-1][0], network(WAVEFORM)[-1][0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "reach"),
    [
        ({"hidden": 32}, "hidden_size"),
        ({"heads": 4}, "num_attention_heads"),
        ({"conv_width": 12}, "conv_dim"),
        ({"taps": (1, 2, 4)}, "num_hidden_layers"),
    ],
)
def test_every_size_has_an_effect(settings, reach):
    one, other = (getattr(tapped(**part).model.config, reach) for part in ({}, settings))
    assert one != other


def test_the_configuration_alone_builds_the_network_again(published):
    network = tapped(pretrained=str(published[1]))
    again = TappedWav2Vec2(configuration(EncoderParams(**TINY, pretrained=str(published[1])), 3), (1, 2, 3))
    again.load_state_dict(network.state_dict(), strict=True)
    torch.testing.assert_close(again.eval()(WAVEFORM), network.eval()(WAVEFORM), atol=0, rtol=0)


def test_what_the_file_has_beyond_the_last_tap_is_left(published):
    model, folder = published
    weights = load_file(folder / "model.safetensors")
    save_file(
        {**weights, "quantizer.codevectors": torch.zeros(3), "project_q.weight": torch.zeros(3)},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    try:
        tapped(pretrained=str(folder))
    finally:
        model.save_pretrained(folder)


@pytest.mark.parametrize("change", ["lack", "misfit"])
def test_a_folder_that_lacks_weights_is_refused_naming_them(published, tmp_path, change):
    model, _ = published
    model.save_pretrained(tmp_path)
    weights, key = load_file(tmp_path / "model.safetensors"), "encoder.layers.1.attention.k_proj.weight"
    weights = {name: tensor for name, tensor in weights.items() if name != key}
    save_file(weights | ({key: torch.zeros(3, 3)} if change == "misfit" else {}), tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=key.replace(".", r"\.")):
        tapped(pretrained=str(tmp_path))


def test_a_place_without_weights_and_taps_too_deep_are_refused(published, tmp_path):
    with pytest.raises(InputError, match=r"pretrained: .*nowhere"):
        tapped(pretrained=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"has 5 layers, no layer 6"):
        tapped(pretrained=str(published[1]), taps=(2, 4, 6))
