import pytest
import torch

from earmark.networks.classifier import Classifier
from earmark.params import AasistParams, ConformerParams, DispersionParams, EmphasisParams
from earmark.training.losses import mixed_cross_entropy, n_pair
from earmark.training.objectives import Dispersion, Emphasis

CONFORMER = ConformerParams(width=16, layers=1, heads=2, kernel=5)
REFD = AasistParams(width=18, encoder_widths=(4, 8), graph_widths=(8, 6))


def test_dispersion_is_the_sum_of_its_parts_and_each_switch_has_an_effect():
    torch.manual_seed(0)
    features, labels = torch.randn(6, 20, 12), torch.tensor([0, 1, 0, 1, 1, 0])
    network = Classifier(12, CONFORMER.model_copy(update={"dropout": 0.0}), 2)
    parts = Dispersion(network, DispersionParams(regmixup=0.5, n_pair=2.0), 2)(features, labels)
    total = parts["cross_entropy"] + 0.5 * parts["regmixup"] + 2 * parts["n_pair"]
    assert parts["loss"].item() == pytest.approx(total.item(), rel=1e-6)
    embedding = network(features).embedding
    assert parts["n_pair"].item() == pytest.approx(n_pair(embedding[:2], embedding[2:4], 0.002).item(), rel=1e-5)
    plain = Dispersion(network, DispersionParams(regmixup=0.0, n_pair=0.0), 2)(features, labels)
    assert plain.keys() == {"loss", "cross_entropy"}
    assert "n_pair" not in Dispersion(network, DispersionParams(), 0)(features, labels)


def test_with_eta_1_and_nothing_mixed_regmixup_doubles_the_cross_entropy():
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    plain = torch.nn.functional.cross_entropy(logits, labels)
    assert (plain + mixed_cross_entropy(logits, labels, labels, 0.3)).item() == pytest.approx(2 * plain.item(), rel=1e-6)


def test_emphasis_is_cross_entropy_and_weighed_one_class_softmax():
    torch.manual_seed(0)
    objective = Emphasis(Classifier(12, REFD, 2).eval(), EmphasisParams(oc_softmax=3.0)).eval()
    parts = objective(torch.randn(4, 20, 12), torch.tensor([0, 1, 1, 0]))
    assert parts["loss"].item() == pytest.approx((parts["cross_entropy"] + 3 * parts["oc_softmax"]).item(), rel=1e-6)
    assert parts["oc_softmax"] > 0
