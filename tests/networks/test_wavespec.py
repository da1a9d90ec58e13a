import pytest
import torch

from earmark.features.clips import clip_frames
from earmark.networks.wav2vec2 import configuration
from earmark.networks.wavespec import WaveSpec
from earmark.params import LossParams, WaveSpecParams
from earmark.training.losses import DetectorLoss

TINY = {
    "encoder": {"pretrained": None, "taps": (1, 2, 3), "hidden": 16, "heads": 2, "conv_width": 8},
    "spectrogram": {"widths": (8, 8, 8), "stem_stride": 2},
    "fusion_width": 16,
    "head_widths": (8, 8, 8, 16),
}
SAMPLES = 16_000
FRAMES = clip_frames(SAMPLES)


def build(seed: int = 0, **settings) -> WaveSpec:
    """A tiny network; every weight drawn, so that nothing is hidden behind a first weight of zero."""
    content = {**TINY, **settings}
    for name in ("encoder", "spectrogram"):
        content[name] = {**TINY[name], **settings.get(name, {})}
    params = WaveSpecParams(**content)
    torch.manual_seed(seed)
    network = WaveSpec(params, configuration(params.encoder, params.encoder.taps[-1], params.encoder.dropout))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return network.eval()


def views(batch: int = 3, samples: int = SAMPLES, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    magnitude = torch.randn(batch, 1, 84, clip_frames(samples), generator=generator) - 4
    phase = 2 * torch.pi * (torch.rand(batch, 1, 84, clip_frames(samples), generator=generator) - 0.5)
    return 0.05 * torch.randn(batch, samples, generator=generator), torch.cat((magnitude, phase), dim=1)


def test_a_clip_of_4_seconds_has_201_frames():
    assert clip_frames(64_600) == 201
    detection = build()(*views(2, 64_600))
    assert detection.embedding.shape == (2, 16)
    assert detection.logits.shape == (2, 2)


def test_a_higher_score_is_more_bona_fide():
    detection = build()(*views())
    torch.testing.assert_close(detection.cm_score, detection.logits[:, 1] - detection.logits[:, 0])


@pytest.mark.parametrize(("chosen", "waveform", "cqt"), [("both", True, True), ("waveform", True, False), ("spectrogram", False, True)])
def test_the_views_asked_for_have_an_effect_and_no_others(chosen, waveform, cqt):
    network, (sound, image), (other_sound, other_image) = build(views=chosen), views(seed=0), views(seed=1)
    base = network(sound, image).cm_score
    assert torch.allclose(network(other_sound, image).cm_score, base) is not waveform
    assert torch.allclose(network(sound, other_image).cm_score, base) is not cqt


def test_view_dropout_hides_the_waveform_of_some_clips_in_training_alone():
    network, image = build(view_dropout=0.5), views(batch=32)[1][:1].expand(32, -1, -1, -1)
    sound = views(batch=1)[0].expand(32, -1)  # one clip 32 times: what differs was hidden
    torch.testing.assert_close(network(sound, image).cm_score.std(), torch.tensor(0.0), atol=1e-6, rtol=0)
    network.training = True  # the parts stay in evaluation mode, so that nothing else is drawn
    torch.manual_seed(0)
    scores = network(sound, image).cm_score.detach()
    assert len({round(float(score), 4) for score in scores}) == 2


def test_what_view_dropout_hides_is_zeros_and_is_not_encoded():
    network, (sound, image), encoded = build(view_dropout=0.5, encoder={"dropout": 0.0}), views(batch=16), []
    assert network.encoder is not None
    network.train()
    torch.manual_seed(0)
    shown = torch.rand(16) >= 0.5
    hidden = [view * shown[:, None, None] for view in network.encoder(sound)]
    network.encoder.register_forward_pre_hook(lambda module, given: encoded.append(given[0]))
    torch.manual_seed(0)
    found = network(sound, image)
    torch.testing.assert_close(encoded, [sound[shown]], atol=0, rtol=0)
    network._encode = lambda encoder, waveform: hidden
    torch.testing.assert_close(found.logits, network(sound, image).logits, atol=1e-5, rtol=1e-5)


def test_where_every_waveform_is_hidden_all_weights_have_a_gradient_still():
    """Processes that train together wait for each other's gradients of every weight."""
    network = build(view_dropout=0.999).train()
    torch.manual_seed(0)
    network(*views(batch=2)).logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


VARIANTS = ({}, {"head": "2d"}, {"views": "waveform"}, {"views": "spectrogram"})


@pytest.mark.parametrize("settings", [*VARIANTS, {"spectrogram": {"bands": 4, "phase": "cos_sin"}}])
def test_the_loss_reaches_every_parameter(settings):
    network = build(**settings).train()
    loss = DetectorLoss(LossParams(), 16, (0.1, 0.9))
    detection = network(*views(4))
    loss(detection.embedding, detection.logits, torch.tensor([0, 1, 0, 1]))["loss"].backward()
    unreached = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not unreached
    flat = [name for name, parameter in network.named_parameters() if not parameter.grad.abs().max() > 0]
    assert not flat
    assert (loss.single_center.centre.grad != 0).all()


@pytest.mark.parametrize("settings", VARIANTS)
def test_batch_composition_changes_no_score(settings):
    network, (sound, image) = build(**settings), views(8)
    with torch.no_grad():
        whole = network(sound, image)
        alone = [network(sound[i : i + 1], image[i : i + 1]) for i in range(8)]
        loud = network(torch.cat((sound[:1], 50 * sound[1:])), torch.cat((image[:1], image[1:] * 3)))
    torch.testing.assert_close(torch.cat([one.cm_score for one in alone]), whole.cm_score, atol=1e-5, rtol=0)
    torch.testing.assert_close(loud.cm_score[0], whole.cm_score[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"encoder": {"taps": (1, 2, 4)}},
        {"encoder": {"hidden": 32}},
        {"encoder": {"heads": 4}},
        {"encoder": {"conv_width": 12}},
        {"spectrogram": {"phase": "none"}},
        {"spectrogram": {"phase": "cos_sin"}},
        {"spectrogram": {"widths": (8, 8, 12)}},
        {"spectrogram": {"stem_stride": 1}},
        {"spectrogram": {"bands": 4}},
        {"fusion_width": 32},
        {"reduction": 2},
        {"head": "2d"},
        {"head_widths": (8, 8, 12, 16)},
        {"views": "waveform"},
        {"views": "spectrogram"},
    ],
    ids=str,
)
def test_every_setting_has_an_effect(settings):
    assert not torch.allclose(build(**settings)(*views()).cm_score, build()(*views()).cm_score)


@pytest.mark.parametrize("settings", [{"dropout": 0.5}, {"encoder": {"dropout": 0.5}}])
def test_dropout_acts_in_training_alone(settings):
    torch.manual_seed(1)
    plain = {"encoder": {"dropout": 0.0}}
    network, (sound, image) = build(**{**plain, **settings}), views(16)
    torch.testing.assert_close(network(sound, image).logits, network(sound, image).logits, atol=0, rtol=0)
    network.train()
    assert not torch.allclose(network(sound, image).logits, network(sound, image).logits, atol=1e-4)
    still = build(**plain).train()
    torch.testing.assert_close(still(sound, image).logits, still(sound, image).logits)


def test_a_random_encoder_is_never_frozen():
    network = build()
    network.freeze_encoder(True)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert network.encoder_parameters() == []
