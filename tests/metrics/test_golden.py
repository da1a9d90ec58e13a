"""Published score files whose figures are known to ten digits, through the command itself."""

import json
import os
from pathlib import Path

import pytest

from earmark.cli.metrics import run

SHARED = Path(os.environ.get("EARMARK_SHARED", Path(__file__).parents[3] / "shared"))
GOLDEN, PROTOCOLS = SHARED / "data/golden", SHARED / "data/protocols"
LA_SCORES = GOLDEN / "asvspoof2019_la_eval.ocsoftmax.cm_scores.txt.gz"
LA_ASV = GOLDEN / "ASVspoof2019.LA.asv.eval.gi.trl.scores.txt.gz"
LA_PROTOCOL = PROTOCOLS / "ASVspoof2019.LA.cm.eval.trl.txt.gz"

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"published score files are not at {GOLDEN}")


@pytest.fixture
def report(capsys):
    def _report(*args, **options):
        run(*args, as_json=True, **options)
        return json.loads(capsys.readouterr().out)

    return _report


def rounded(value, digits):
    return f"{value:.{digits}f}"


@pytest.mark.parametrize("protocol", [LA_PROTOCOL, None], ids=["protocol", "own keys"])
def test_asvspoof2019_la(report, protocol):
    found = report(LA_SCORES, protocol, LA_ASV, negate=True)
    row = found["headline"][0]
    assert (row["bonafide"], row["spoof"]) == (7355, 63882)
    assert rounded(100 * row["eer"], 10) == "2.1779869202"
    assert rounded(row["min_tdcf_legacy"], 10) == "0.0558160062"
    assert rounded(row["min_tdcf_2021"], 10) == "0.1150473866"
    assert rounded(row["min_dcf"], 10) == "0.0518562605"
    assert rounded(row["act_dcf"], 10) == "0.0792012980"
    assert rounded(row["cllr"], 10) == "0.5037876407"
    assert found["metrics"][f"{row['corpus']}/eer"] == row["eer"]
    known = {"A07": "0.122233", "A10": "1.140841", "A15": "1.402280", "A17": "9.177645", "A18": "0.896375", "A19": "0.872604"}
    attacks = {attack["value"]: rounded(100 * attack["eer"], 6) for attack in found["per_attack"]}
    assert len(attacks) == 13
    assert {name: attacks[name] for name in known} == known
    assert found["warnings"] == []


def test_flipped_scores_warn_loudly(report, caplog):
    found = report(LA_SCORES, LA_PROTOCOL, None)
    assert rounded(100 * found["headline"][0]["eer"], 10) == "97.8220130798"
    assert "LOOK FLIPPED" in found["warnings"][0]
    assert "LOOK FLIPPED" in caplog.text


def test_verifier_of_asvspoof2019_la():
    from earmark.evaluation.scorefile import read_asv_scores
    from earmark.metrics.detection import DetectionCurve, eer_point

    asv = read_asv_scores(LA_ASV)
    rate, threshold = eer_point(DetectionCurve.of(asv.target, asv.nontarget))
    assert rate == pytest.approx(0.02457783738686887, abs=1e-16)
    assert threshold == -5.680051


def test_in_the_wild(report):
    row = report(GOLDEN / "in_the_wild.xlsr_mamba.cm_scores.txt.gz", PROTOCOLS / "in_the_wild.protocol.txt.gz", None)["headline"][0]
    assert (row["bonafide"], row["spoof"]) == (19963, 11816)
    assert rounded(100 * row["eer"], 10) == "6.7093238520"
    assert rounded(row["min_dcf"], 10) == "0.1728549068"
    assert rounded(row["act_dcf"], 10) == "1.0476155041"
    assert rounded(row["cllr"], 10) == "1.0210170062"


def test_table_shows_percent(capsys):
    run(LA_SCORES, LA_PROTOCOL, LA_ASV, as_json=False)
    shown = capsys.readouterr().out
    assert "97.8220" in shown
    assert "WARNING" in shown
