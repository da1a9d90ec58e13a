"""The report as a reader meets it: in a browser, on a desk and on a phone."""

import json

import numpy as np
import pandas as pd
import pytest

from earmark import stages
from earmark.evaluation.card import counts
from earmark.evaluation.detection import Settings
from earmark.evaluation.page import Findings, evaluation_page
from earmark.model.manifest import read_manifest
from earmark.report.grids import Cell, Grid, cost, heat, percent
from earmark.storage.files import read_table

PERCENTAGES = ("eer", "accuracy", "fpr95", "eer_classification", "coverage", "rejected_known", "rejected_unseen")
ROBUSTNESS = pd.DataFrame(
    [
        ("tiny", "none", "", 40, 80, 0.2),
        ("tiny", "mp3", "64", 40, 80, 0.15),
        ("tiny", "mp3", "32", 40, 80, 0.41),
        ("tiny", "noise_snr", "10", 39, 79, 0.33),
        ("tiny", "noise_snr", "0", 1, 2, np.nan),
    ],
    columns=["corpus", "degradation", "level", "trials_bonafide", "trials_spoof", "eer"],
)


@pytest.fixture(scope="module")
def findings(done) -> Findings:
    """What the stage had, and a grid of robustness."""
    folder = done / stages.ARTIFACTS["evaluation"]
    tables = {path.stem: pd.read_csv(path) for path in folder.glob("*.csv")}
    metrics, trials = json.loads((folder / "metrics.json").read_text()), read_table(folder / "trials.parquet")
    manifest = read_manifest(done / stages.ARTIFACTS["model"])
    return Findings(
        metrics, tables, ["tiny: <b>something</b> is off"], trials, folder / "figures", Settings(100, 0, 2), ROBUSTNESS, manifest
    )


@pytest.mark.parametrize("width", [1400, 390])
def test_the_stage_s_report_fits_the_screen_asks_for_nothing_and_shows_every_picture(done, page_at, width):
    found = page_at(done / stages.ARTIFACTS["evaluation"] / "report.html", width)
    assert found.errors == []
    assert found.requests == []
    assert found.run("document.documentElement.scrollWidth") <= width
    widths = found.run("[...document.images].map(image => image.naturalWidth)")
    drawn = list((done / stages.ARTIFACTS["evaluation"] / "figures").iterdir())
    assert len(widths) == len(drawn)
    assert min(widths) > 300
    assert float(found.run("parseFloat(getComputedStyle(document.body).fontSize)")) >= 16


def test_every_figure_of_the_page_is_that_of_the_metrics(done, page_at):
    folder = done / stages.ARTIFACTS["evaluation"]
    found, metrics = page_at(folder / "report.html", 1400), json.loads((folder / "metrics.json").read_text())
    cells = found.run("[...document.querySelectorAll('[data-metric]')].map(cell => [cell.dataset.metric, cell.textContent])")
    headline = found.run("[...document.querySelectorAll('.headline [data-metric]')].map(cell => cell.dataset.metric)")
    assert headline == ["tiny/eer", "tiny/min_dcf", "tiny/cllr_calibrated", "tiny/tracing/accuracy", "tiny/tracing/macro_f1"]
    assert len(cells) > 2 * len(headline)
    for name, text in cells:
        show = percent if name.split("/")[-1] in PERCENTAGES else cost
        assert text == show(metrics[name]), name
    intervals = found.run("[...document.querySelectorAll('.headline td')].map(cell => cell.querySelector('small')?.textContent)")
    assert all("–" in text for text in intervals)
    assert percent(metrics["tiny/eer"]) in found.run("document.querySelector('.lead').textContent")


def test_the_worst_cell_is_named_and_marked_and_warnings_stand_at_the_top(findings, page_at, tmp_path):
    (tmp_path / "report.html").write_text(evaluation_page(findings))
    found = page_at(tmp_path / "report.html", 390)
    assert found.run("document.documentElement.scrollWidth") <= 390
    text = found.run("document.body.innerText")
    assert "Worst: mp3 32: EER 41.0\N{NO-BREAK SPACE}%, against 20.0\N{NO-BREAK SPACE}% on the clean sample." in text
    assert "At least 1 bona fide trials and 2 spoofs a cell." in text
    assert found.run("[...document.querySelectorAll('.marked')].map(cell => cell.innerText.split(/\\s+/).join(' '))") == ["32 41.0 %"]
    assert "tiny: <b>something</b> is off" in text  # as text, not as a tag
    assert text.index("is off") < text.index("Detection: bona fide")


def test_the_card_says_what_the_model_is_made_of(findings, page_at, tmp_path):
    (tmp_path / "report.html").write_text(evaluation_page(findings))
    found = page_at(tmp_path / "report.html", 1400)
    text = found.run("document.body.innerText")
    assert findings.manifest is not None
    for said in (findings.manifest["digest"], findings.manifest["code"]["version"], "No licence is stated of tiny", "engine0, engine1"):
        assert said in text
    assert "clip_samples: 16000" in found.run("document.querySelector('details pre').textContent")
    assert "clip_samples" not in text  # folded


def test_counts_say_when_no_speaker_is_stated(findings):
    assert counts(findings.trials, "tiny") == "4 bona fide, 12 spoofs, 2 speakers, 4 sources"
    assert "its intervals are too narrow" in counts(findings.trials.assign(speaker=None), "tiny")


def test_a_heat_table_is_as_wide_as_its_longest_row_and_knows_what_is_not_measured():
    grid = heat(ROBUSTNESS[1:].reset_index(drop=True), str, 0.2)
    assert [len(row) for row in grid.rows] == [3, 3]
    assert [cell.heat for cell in grid.rows[0][1:]] == [0, 1]
    assert grid.rows[1][2] == Cell("too few", "0")


def test_long_tables_fold_unless_hardly_anything_is_left():
    rows = [[Cell(str(number))] for number in range(40)]
    assert [len(part) for part in (Grid.of([], rows, 15).rows, Grid.of([], rows, 15).folded)] == [15, 25]
    assert Grid.of([], rows, 37).folded == []


@pytest.mark.parametrize(("value", "text"), [(0.02178, "2.18 %"), (0.0999, "10.0 %"), (1.0, "100.0 %"), (0.0, "0.00 %")])
def test_percent_has_three_digits_or_so(value, text):
    assert percent(value) == text.replace(" ", "\N{NO-BREAK SPACE}")
