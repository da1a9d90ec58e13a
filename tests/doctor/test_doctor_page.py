import re

from earmark.doctor.page import NAMES, render

CHECK = {
    "severity": "error",
    "unit": "files",
    "found": "",
    "summary": "",
    "advice": "",
    "status": "pass",
    "count": 0,
    "culprits": [],
    "culprits_total": 0,
}
CUE = {"trials": "train", "bonafide": 30, "spoof": 40, "median_bonafide": -20.0, "median_spoof": -30.0, "low": 0.7, "high": 0.95}


def content(**changes) -> dict:
    checks = [CHECK | {"check": name} for name in NAMES]
    settings = {"confidence": 0.99, "max_auc": 0.7}
    plain = {"status": "pass", "utterances": 70, "seconds": 3600.0, "cues": [], "checks": checks, "settings": settings}
    return plain | {"trials": [{"corpus": "x", "split": "train", "bonafide": 30, "spoof": 40}]} | changes


def test_a_page_needs_nothing_else_and_names_every_check():
    page = render(content())
    assert not re.search(r'(src|href)="https?:', page)
    assert all(name in page for name in NAMES.values())
    assert "Cheap cues" in page
    assert "AUC" not in page


def test_culprits_are_shown_escaped_and_counted():
    culprit = {"utterance_id": "<script>alert(1)</script>", "path": "a&b.wav", "clipped_percent": 1.25, "source": None}
    check = CHECK | {
        "check": "clipped",
        "status": "warn",
        "count": 30,
        "found": "30 files",
        "culprits": [culprit],
        "culprits_total": 30,
        "advice": "fetch them",
    }
    page = render(content(status="warn", checks=[check]))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "The first 1 of 30 rows" in page
    assert 'href="clipped.csv"' in page
    assert "None" not in page


def test_cues_that_separate_are_marked_and_unjudged_ones_grey():
    rows = [
        CUE | {"cue": "level_dbfs", "auc": 0.85, "judged": True, "separates": True},
        CUE | {"cue": "original_format", "auc": 0.6, "judged": False, "separates": False, "median_bonafide": None, "median_spoof": None},
    ]
    page = render(content(cues=rows))
    assert page.count(">separates<") == 1
    assert page.count('class="unjudged"') == 1
    assert "-20.0 dBFS" in page
    assert "original format" in page
