import numpy as np
import pytest
from PIL import Image

from earmark.evaluation.calibration_figures import draw_reliability, draw_tippett, reliability

RNG = np.random.default_rng(0)
PAIR = RNG.normal(2, 2, 4000), RNG.normal(-2, 2, 20000)  # log-likelihood ratios as they should be, of unequally many trials


def test_scores_that_are_log_likelihood_ratios_lie_on_the_diagonal_however_many_trials_a_key_has():
    promised, observed, counts = reliability(PAIR)
    assert len(promised) == 10
    np.testing.assert_allclose(observed, promised, atol=0.05)
    assert counts.sum(1).tolist() == [4000, 20000]


def test_bins_without_trials_are_left_out():
    promised, observed, counts = reliability((np.array([9.0, 9.0]), np.array([-9.0, 9.0])))
    assert promised == pytest.approx([1 / (1 + np.exp(9)), 1 / (1 + np.exp(-9))])
    assert observed == pytest.approx([0, 2 / 3])
    assert counts.tolist() == [[0, 2], [1, 1]]


@pytest.mark.parametrize("draw", [draw_reliability, draw_tippett])
@pytest.mark.parametrize("after", [PAIR, (np.zeros(3), np.zeros(2))], ids=["scores", "nothing said"])
def test_drawings_are_pictures_and_the_same_bytes(tmp_path, draw, after):
    for path in (tmp_path / "a.png", tmp_path / "b.png"):
        draw(path, (np.ones(3), -np.ones(2)), after, "one")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert min(picture.size) > 300
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20
