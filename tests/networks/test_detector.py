import numpy as np
import pytest
import torch

from earmark import InputError
from earmark.features.views import bins, standardised, transform
from earmark.networks.detector import MixtureDetector, ViewDetector, load_detector, save_detector
from earmark.networks.gmm import Mixtures
from earmark.params import AasistParams, ConformerParams, CqtParams, GmmParams, ResNetParams

CQT = CqtParams()
SECTIONS = {"cqt": CQT.model_dump(mode="json")}
NETWORKS = {
    "resnet": ResNetParams(widths=(4, 8)),
    "aasist": AasistParams(reads="lfcc", width=18, encoder_widths=(4, 8), graph_widths=(8, 6), dropout=0.0),
    "conformer": ConformerParams(reads="cqt", width=16, layers=1, heads=2, kernel=5, dropout=0.0),
}


def clips(view: str, count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Waveforms and a view: noise, and noise with a tone in the second half of them."""
    waveform = 0.1 * torch.randn(count, 16_000, generator=torch.Generator().manual_seed(0))
    waveform[count // 2 :] += 0.1 * torch.sin(torch.arange(16_000) * 2 * torch.pi * 3000 / 16_000)
    return waveform, transform(view, CQT)(waveform)


@pytest.mark.parametrize("view", ["cqt", "linear", "lfcc"])
def test_a_view_is_as_wide_as_is_said_and_standardised(view):
    _, image = clips(view)
    assert image.shape[2] == bins(view, CQT)
    found = standardised(view, image)
    assert found.shape[1] == 1
    assert 0.2 < found.std() < 3
    with pytest.raises(InputError, match="computed beforehand"):
        transform("front_end", CQT)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_back_end_learns_two_kinds_of_clip_by_heart(kind):
    torch.manual_seed(0)
    network = ViewDetector(NETWORKS[kind], CQT)
    waveform, image = clips(network.view)
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(network(waveform, image).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        score = network.eval()(waveform, image).cm_score
    assert score[4:].min() > score[:4].max()


@pytest.mark.parametrize("kind", [*NETWORKS, "lfcc_gmm"])
def test_a_member_comes_back_from_its_file_with_the_same_scores(kind, tmp_path):
    torch.manual_seed(0)
    if kind == "lfcc_gmm":
        frames = [np.random.default_rng(seed).normal(size=(40, 60)) + seed % 2 for seed in range(6)]
        params = GmmParams(components=4, frames=1000)
        network = MixtureDetector(params, Mixtures.fit(frames, np.arange(6) % 2, params, 0))
    else:
        network = ViewDetector(NETWORKS[kind], CQT).eval()
    save_detector(tmp_path / "member.safetensors", network, SECTIONS)
    again, meta = load_detector(tmp_path / "member.safetensors")
    assert meta["cqt"] == SECTIONS["cqt"]
    views = clips(network.view)
    with torch.no_grad():
        for one, other in zip(network(*views), again(*views), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_mixtures_score_a_clip_by_the_keys_log_likelihood_ratio():
    frames = [np.random.default_rng(seed).normal(size=(200, 60)) + 2 * (seed % 2) for seed in range(6)]
    params = GmmParams(components=4, frames=1000)
    network = MixtureDetector(params, Mixtures.fit(frames, np.arange(6) % 2, params, 0))
    images = torch.from_numpy(np.stack([frames[0], frames[1]]).astype(np.float32)).transpose(1, 2)[:, None]
    spoof, bonafide = network(torch.empty(2, 0), images).cm_score.tolist()
    assert spoof < 0 < bonafide
    assert network(torch.empty(2, 0), images).embedding.shape == (2, 60)
