import numpy as np
import pandas as pd
import pytest
from PIL import Image

from earmark.metrics.detection import DetectionCurve, eer
from earmark.report import figures

GENERATOR = np.random.default_rng(0)
BONAFIDE, SPOOF = GENERATOR.normal(2, 1, 3000), GENERATOR.normal(0, 1, 5000)
CURVES = {"one": DetectionCurve.of(BONAFIDE, SPOOF), "perfect": DetectionCurve.of([1.0], [0.0])}
HISTORY = pd.DataFrame({"epoch": [1, 2, 3], "train/loss": [3.0, 2.0, 1.0], "dev/eer": [0.3, 0.1, np.nan]})
SOURCES = pd.DataFrame({"value": ["a", "b"], "spoof": [30, 5], "eer": [0.2, np.nan]})

DRAWINGS = {
    "det": lambda path: figures.draw_det(path, CURVES),
    "histogram": lambda path: figures.draw_score_histogram(path, BONAFIDE, SPOOF, 1.0, "one"),
    "constant scores": lambda path: figures.draw_score_histogram(path, np.ones(3), np.ones(2), 1.0, "one"),
    "training": lambda path: figures.draw_training(path, HISTORY),
    "training without dev": lambda path: figures.draw_training(path, HISTORY[["epoch", "train/loss"]]),
    "sources": lambda path: figures.draw_source_bars(path, SOURCES, "one"),
    "no source with enough trials": lambda path: figures.draw_source_bars(path, SOURCES[1:], "one"),
    "embeddings": lambda path: figures.draw_embeddings(
        path, np.arange(240.0).reshape(60, 4), ["bonafide", "spoof"] * 30, [None, *range(59)], 0
    ),
    "three embeddings": lambda path: figures.draw_embeddings(path, np.eye(3), ["bonafide", "spoof", "spoof"], [None, "a", "b"], 0),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings_are_pictures_and_the_same_bytes(tmp_path, name):
    for path in (tmp_path / "a.png", tmp_path / "b.png"):
        DRAWINGS[name](path)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 150
        assert "Software" not in picture.info
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20  # something is drawn


def test_a_sample_is_seeded_and_bounded():
    rows = figures.sample_rows(10_000, 3)
    assert len(rows) == len(np.unique(rows)) == 2000
    assert (rows == figures.sample_rows(10_000, 3)).all()
    assert not (rows == figures.sample_rows(10_000, 4)).all()
    assert list(figures.sample_rows(5, 3)) == [0, 1, 2, 3, 4]


def test_plots_data_is_thin_and_keeps_the_eer(tmp_path):
    figures.write_plots_data(tmp_path, CURVES, {"wavespec": HISTORY})
    table = pd.read_csv(tmp_path / "det.csv")
    one = table[table["corpus"] == "one"]
    assert len(one) <= 500
    closest = (one["miss"] - one["false_alarm"]).abs().idxmin()
    assert one.loc[closest, ["miss", "false_alarm"]].mean() == pytest.approx(eer(CURVES["one"]))
    assert (one["miss"].min(), one["miss"].max()) == (0, 1)
    table = pd.read_csv(tmp_path / "training.csv")
    assert (list(table["epoch"]), set(table["member"])) == ([1, 2, 3], {"wavespec"})
