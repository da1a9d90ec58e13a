import math

import pytest
import torch
from pytorch_metric_learning.distances import DotProductSimilarity
from pytorch_metric_learning.losses import NPairsLoss

from earmark.params import LossParams
from earmark.training.losses import DetectorLoss, OneClassSoftmax, SingleCenterLoss, mix, mixed_cross_entropy, n_pair


def test_the_single_center_loss_is_its_closed_form():
    """Distances 3 and 5 of bona fide, 4 and 6 of spoof, centre at 0: M_nat 4, M_man 5, margin 0.5·√4."""
    embedding = torch.tensor([[3.0, 0, 0, 0], [0, 4, 0, 0], [0, 3, 4, 0], [6, 0, 0, 0]])
    loss = SingleCenterLoss(4, 0.5)(embedding, torch.tensor([1, 0, 1, 0]))
    assert loss.item() == pytest.approx(4 + (4 - 5 + 1))
    assert SingleCenterLoss(4, 2.0)(embedding, torch.tensor([1, 0, 1, 0])).item() == pytest.approx(4 + (4 - 5 + 4))
    assert SingleCenterLoss(4, 0.1)(embedding, torch.tensor([1, 0, 1, 0])).item() == pytest.approx(4)  # spoofs are far enough


def test_distances_are_measured_from_the_centre():
    loss = SingleCenterLoss(2, 0.0)
    with torch.no_grad():
        loss.centre.copy_(torch.tensor([1.0, 1.0]))
    assert loss(torch.tensor([[4.0, 5.0], [1.0, 11.0]]), torch.tensor([1, 0])).item() == pytest.approx(5)


def test_the_published_margin():
    assert SingleCenterLoss(512, 0.3).margin == pytest.approx(6.788225, abs=1e-6)


def test_without_spoofs_it_is_the_spread_of_bona_fide_and_without_bona_fide_nothing():
    embedding = torch.tensor([[3.0, 4.0], [6.0, 8.0]], requires_grad=True)
    loss = SingleCenterLoss(2, 0.3)
    assert loss(embedding, torch.ones(2)).item() == pytest.approx(7.5)
    nothing = loss(embedding, torch.zeros(2))
    assert nothing.item() == 0
    nothing.backward()
    assert torch.equal(embedding.grad, torch.zeros(2, 2))
    assert torch.equal(loss.centre.grad, torch.zeros(2))


@pytest.mark.parametrize("labels", [[1, 1], [1, 0], [0, 1], [0, 0]])
def test_the_gradient_is_finite_at_the_centre_itself(labels):
    embedding = torch.zeros(2, 8, requires_grad=True)
    loss = SingleCenterLoss(8, 0.3)
    loss(embedding, torch.tensor(labels)).backward()
    assert torch.isfinite(embedding.grad).all()
    assert torch.isfinite(loss.centre.grad).all()


def test_descent_draws_bona_fide_to_the_centre_and_pushes_spoofs_beyond_the_margin():
    torch.manual_seed(0)
    embedding, labels = torch.nn.Parameter(torch.randn(20, 4)), torch.arange(20) % 2
    loss = SingleCenterLoss(4, 0.5)
    optimizer = torch.optim.SGD([embedding, *loss.parameters()], lr=0.1)
    for _ in range(1000):
        optimizer.zero_grad()
        loss(embedding, labels).backward()
        optimizer.step()
    distance = (embedding - loss.centre).norm(dim=-1)
    assert distance[labels == 1].mean() < 0.2
    assert distance[labels == 0].mean() > distance[labels == 1].mean() + 0.9


def test_the_detectors_loss_is_weighted_cross_entropy_and_its_share_of_the_other():
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0]]), torch.tensor([0, 1, 1])
    embedding = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    found = DetectorLoss(LossParams(single_center=0.7, margin=0.2), 8, (0.1, 0.9))(embedding, logits, labels)
    terms = [math.log1p(math.exp(-2)), math.log1p(math.exp(-1)), math.log1p(math.exp(0.5))]
    expected = (0.1 * terms[0] + 0.9 * terms[1] + 0.9 * terms[2]) / 1.9
    assert found["cross_entropy"].item() == pytest.approx(expected, abs=1e-6)
    assert found["single_center"].item() == pytest.approx(SingleCenterLoss(8, 0.2)(embedding, labels).item())
    assert found["loss"].item() == pytest.approx(expected + 0.7 * found["single_center"].item(), abs=1e-6)


def test_the_class_weights_enter_no_checkpoint():
    assert list(DetectorLoss(LossParams(), 8, (0.1, 0.9)).state_dict()) == ["single_center.centre"]


def test_one_class_softmax_is_its_closed_form():
    loss = OneClassSoftmax(2, 0.9, 0.2, 20.0)
    with torch.no_grad():
        loss.direction.copy_(torch.tensor([2.0, 0.0]))
    embedding = torch.tensor([[3.0, 4.0], [5.0, 0.0], [0.0, 0.0]])  # cosines .6, 1 and, without a direction, 0
    expected = (math.log1p(math.exp(20 * 0.3)) + math.log1p(math.exp(20 * 0.8)) + math.log1p(math.exp(20 * -0.2))) / 3
    assert loss(embedding, torch.tensor([1, 0, 0])).item() == pytest.approx(expected, rel=1e-5)


def test_one_class_softmax_has_a_gradient_of_a_zero_embedding():
    loss, embedding = OneClassSoftmax(3, 0.9, 0.2, 20.0), torch.zeros(2, 3, requires_grad=True)
    loss(embedding, torch.tensor([1, 0])).backward()
    assert torch.isfinite(embedding.grad).all()


def n_pair_by_sum(anchors, positives):
    """Sohn's eq. 6, written out."""
    products = anchors @ positives.T
    apart = (products - products.diag()[:, None]).exp()
    return torch.log(1 + apart.sum(1) - apart.diag()).mean()


def test_n_pair_is_its_sum_and_its_gradient_is_right():
    torch.manual_seed(0)
    anchors, positives = (torch.randn(5, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert n_pair(anchors, positives, 0.0).item() == pytest.approx(n_pair_by_sum(anchors, positives).item(), rel=1e-12)
    assert torch.autograd.gradcheck(lambda a, p: n_pair(a, p, 0.1), (anchors, positives))


def test_n_pair_equals_pytorch_metric_learning_s_on_the_same_pairs():
    torch.manual_seed(0)
    anchors, positives = torch.randn(6, 8), torch.randn(6, 8)
    places, nobody = torch.arange(6), torch.empty(0, dtype=torch.long)
    distance = DotProductSimilarity(normalize_embeddings=False)
    theirs = NPairsLoss(distance=distance)(torch.cat((anchors, positives)), places.repeat(2), (places, places + 6, nobody, nobody))
    assert n_pair(anchors, positives, 0.0).item() == pytest.approx(theirs.item(), rel=1e-6)


def test_scaled_n_pair_is_that_of_embeddings_of_one_length():
    torch.manual_seed(0)
    anchors, positives = torch.randn(5, 3), torch.randn(5, 3)
    unit = [4 * torch.nn.functional.normalize(one, dim=1) for one in (anchors, positives)]
    assert n_pair(anchors, positives, 0.0, scale=16.0).item() == pytest.approx(n_pair_by_sum(*unit).item(), rel=1e-5)
    assert n_pair(7 * anchors, positives, 0.0, scale=16.0).item() == pytest.approx(n_pair_by_sum(*unit).item(), rel=1e-5)


def test_the_penalty_of_n_pair_is_a_quarter_of_the_mean_squared_norms():
    anchors, positives = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    added = n_pair(anchors, positives, 0.002) - n_pair(anchors, positives, 0.0)
    assert added.item() == pytest.approx(0.25 * 0.002 * (12.5 + 1), rel=1e-3)


def test_a_mixed_batch_lies_between_its_rows():
    torch.manual_seed(3)
    features, labels = torch.eye(4), torch.arange(4)
    mixed, others, share = mix(features, labels, 0.5)
    assert 0 <= share <= 1
    torch.testing.assert_close(mixed, share * features + (1 - share) * features[others])
    torch.manual_seed(3)
    assert mix(features, labels, 0.5)[2] == share
    shares = torch.tensor([mix(features, labels, alpha)[2] for alpha in (0.5, 10.0) for _ in range(300)])
    assert shares[:300].var() == pytest.approx(1 / 8, rel=0.2)  # 1 / (4·(2α + 1))
    assert shares[300:].var() == pytest.approx(1 / 84, rel=0.2)


def test_mixed_cross_entropy_is_that_of_mixed_targets():
    torch.manual_seed(0)
    logits, labels, others = torch.randn(6, 3), torch.randint(3, (6,)), torch.randint(3, (6,))
    targets = 0.3 * torch.eye(3)[labels] + 0.7 * torch.eye(3)[others]
    expected = torch.nn.functional.cross_entropy(logits, targets)
    assert mixed_cross_entropy(logits, labels, others, 0.3).item() == pytest.approx(expected.item(), rel=1e-6)
