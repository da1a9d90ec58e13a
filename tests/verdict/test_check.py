"""`earmark check` on real files with the model that the stages made."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf
import torch

from earmark import InputError, stages
from earmark.evaluation import read_scores
from earmark.features.clips import Clips
from earmark.features.recording import WHOLE, open_recordings
from earmark.params import ComputeParams
from earmark.system import Heard
from earmark.tracing.enrolment import Enrolled
from earmark.tracing.ensemble import FILE
from earmark.verdict.answer import Failure, Verdict
from earmark.verdict.command import Options, check, load_judge
from earmark.verdict.evidence import BANDS, MOMENTS, explain
from earmark.verdict.judge import Judge

ROOT = Path(__file__).resolve().parents[2]
CPU = ComputeParams(device="cpu", threads=1)


@pytest.fixture(scope="module")
def model(done) -> Path:
    return done / stages.ARTIFACTS["model"]


@pytest.fixture(scope="module")
def judge(model) -> Judge:
    return load_judge(model, "model", None, CPU, None)


@pytest.fixture(scope="module")
def spoof(corpus) -> Path:
    return corpus / "spoof/eval-spoof-1.flac"  # 5 s


def sound(path: Path) -> np.ndarray:
    return sf.read(path, dtype="float32")[0]


def write_mp4(path: Path, waveform: np.ndarray) -> Path:
    """A film of grey frames with the waveform as its sound."""
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("mpeg4", rate=10), container.add_stream("aac", rate=16_000, layout="mono")
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        frame = av.AudioFrame.from_ndarray(waveform[None].copy(), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        pictures = [av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), format="rgb24") for _ in range(len(waveform) // 1600)]
        for picture in [*pictures, None]:
            container.mux(video.encode(picture))
        for part in (frame, None):
            container.mux(audio.encode(part))
    return path


def run(capsys, judge: Judge, inputs: list[Path | str], options: Options) -> tuple[int, list[dict]]:
    code = check(judge, [str(one) for one in inputs], options)
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_verdict_says_what_the_stages_said(judge, done, spoof):
    scores = read_scores(done / stages.ARTIFACTS["scores"]).set_index("utterance_id")
    (verdict,) = judge.judge(spoof)
    assert verdict.cm_score == pytest.approx(scores.at["eval-spoof-1", "cm_score"], abs=1e-4)
    assert verdict.llr == pytest.approx(float(judge.system.calibration.llr(verdict.cm_score)))
    assert verdict.probability_of_spoof == pytest.approx(1 / (1 + np.exp(verdict.llr)))
    assert len(verdict.timeline) == scores.at["eval-spoof-1", "windows"]
    assert (verdict.timeline[0].start, verdict.timeline[-1].end, verdict.seconds) == (0, 5, 5)
    source = verdict.source
    assert source is not None
    assert sum(row.probability for row in source.sources) + source.unseen_probability == pytest.approx(1)
    assert [row.probability for row in source.sources] == sorted((row.probability for row in source.sources), reverse=True)
    assert {row.source for row in source.nearest} == set(judge.system.ensemble.sources)
    assert (len(verdict.model.digest), len(verdict.sha256), verdict.schema_version) == (64, 64, 2)


def test_a_film_and_a_clip_of_its_sound_are_judged_alike(judge, spoof, tmp_path):
    (film,) = judge.judge(write_mp4(tmp_path / "a.mp4", sound(spoof)))
    (clip,) = judge.judge(spoof)
    assert film.tracks[0].coding == "aac"
    assert film.seconds == pytest.approx(clip.seconds, abs=0.2)
    assert film.cm_score == pytest.approx(clip.cm_score, abs=0.3)


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "wav"])
def test_other_forms_are_read(judge, spoof, tmp_path, suffix):
    sf.write(tmp_path / f"a.{suffix}", sound(spoof), 16_000)
    assert judge.judge(tmp_path / f"a.{suffix}")[0].seconds == pytest.approx(5, abs=0.2)


def test_a_spliced_part_is_marked_and_the_whole_is_not_called_bona_fide(judge, tmp_path):
    """The judge is given scores: what is tested is what it makes of them."""
    path = tmp_path / "long.wav"
    sf.write(path, np.random.default_rng(0).normal(size=16_000 * 20) * 0.1, 16_000)
    calibration, system = judge.system.calibration, judge.system
    good, bad = calibration.bonafide_above + 5, calibration.part_below - 5
    with open_recordings(path, system.params.decoding, system.params.audio, system.transform) as opened:
        (recording,) = opened.recordings
        heard = system.hear(recording)
        inside = (heard.starts >= 16_000 * 10) & (heard.starts < 16_000 * 11.5)
        scores = (np.where(inside, bad, good) - calibration.intercept) / calibration.slope
        verdict = judge.conclude(path, "long", recording, opened, Heard(heard.starts, scores, heard.embedding))
        even = Heard(heard.starts, np.full_like(scores, scores.max()), heard.embedding)
        calm = judge.conclude(path, "long", recording, opened, even)
    (part,) = verdict.spoofed_parts
    assert 9.9 <= part.start <= 10.5
    assert 11.5 <= part.end <= 12.5
    assert verdict.decision == "inconclusive"
    assert verdict.source.seconds < 4
    assert (calm.decision, calm.spoofed_parts) == ("bonafide", [])
    assert {window.decision for window in verdict.timeline} == {"bonafide", "spoof"}


def test_a_prior_moves_probability_and_bounds(model, judge, spoof):
    (wary,) = load_judge(model, "model", None, CPU, 0.99).judge(spoof)
    (plain,) = judge.judge(spoof)
    assert wary.llr == plain.llr
    assert wary.probability_of_spoof > plain.probability_of_spoof
    assert wary.bonafide_above - plain.bonafide_above == pytest.approx(np.log(99))
    with pytest.raises(InputError, match=r"--prior 1\.5"):
        load_judge(model, "model", None, CPU, 1.5)


def test_cautions_name_what_is_wrong(judge, tmp_path):
    tone = np.sin(2 * np.pi * 300 * np.arange(16_000 * 4) / 16_000)
    quiet = np.where(np.arange(len(tone)) < 16_000, tone, 0.0)
    cases = {"short": tone[:8000] * 0.5, "clipped": np.clip(3 * tone, -1, 1), "narrow_band": 0.3 * tone, "silence": 0.3 * quiet}
    for code, waveform in cases.items():
        sf.write(tmp_path / "a.wav", waveform, 16_000)
        assert code in {caution.code for caution in judge.judge(tmp_path / "a.wav")[0].cautions}
    noise = np.random.default_rng(0).normal(size=16_000 * 4) * 0.1
    sf.write(tmp_path / "a.wav", noise, 16_000)
    assert not {"short", "clipped", "narrow_band", "silence"} & {caution.code for caution in judge.judge(tmp_path / "a.wav")[0].cautions}
    distance = judge.judge(tmp_path / "a.wav")[0].distance
    far = judge.system.conditions.threshold < distance
    assert far == ("unlike_training" in {caution.code for caution in judge.judge(tmp_path / "a.wav")[0].cautions})


def test_a_broken_file_among_others_costs_them_nothing(capsys, judge, spoof, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for name in ("a.flac", "c.flac"):
        shutil.copy(spoof, folder / name)
    (folder / "b.wav").write_bytes(b"nothing")
    (folder / "notes.txt").write_text("no audio")
    sf.write(folder / "d.wav", np.zeros(16_000), 16_000)
    sf.write(folder / "e.wav", np.ones(100), 16_000)
    code, lines = run(capsys, judge, [folder], Options(json=True))
    assert code == 3
    assert [Path(line["file"]).name for line in lines] == ["a.flac", "b.wav", "c.flac", "d.wav", "e.wav", "notes.txt"]
    assert ["error" in line for line in lines] == [False, True, False, True, True, True]
    assert [line.get("left_out", False) for line in lines] == [False] * 5 + [True]
    assert "silent from end to end" in lines[3]["error"]
    assert "too short" in lines[4]["error"]
    assert [lines[0][name] for name in ("cm_score", "sha256")] == [lines[2][name] for name in ("cm_score", "sha256")]
    for line in lines:
        (Failure if "error" in line else Verdict).model_validate(line)


def test_nothing_to_check_is_an_error(judge, tmp_path):
    with pytest.raises(InputError, match="no recording there"):
        check(judge, [str(tmp_path)], Options())


def test_exit_codes_follow_the_verdict_where_asked(capsys, judge, spoof, monkeypatch):
    for decision, expected in (("spoof", 10), ("inconclusive", 11), ("bonafide", 0)):
        monkeypatch.setattr(type(judge.system.calibration), "decide", lambda *_, decision=decision: decision)
        monkeypatch.setattr(Judge, "_spoofed_parts", lambda *_: [])
        assert run(capsys, judge, [spoof], Options(json=True, exit_code=True))[0] == expected
        assert run(capsys, judge, [spoof], Options(json=True))[0] == 0


def test_the_command_reads_stdin_and_prints_a_table(model, spoof, tmp_path):
    def earmark(*arguments: str, **options) -> subprocess.CompletedProcess:
        environment = os.environ | {"COLUMNS": "160", "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, "-m", "earmark", "check", *arguments], cwd=tmp_path, env=environment, capture_output=True, **options
        )

    piped = earmark("-", "--model", str(model), "--json", input=spoof.read_bytes())
    assert piped.returncode == 0, piped.stderr
    assert json.loads(piped.stdout)["file"] == "stdin"
    shutil.copy(spoof, tmp_path / "clip.flac")
    shown = earmark("clip.flac", "--model", str(model), "--html", "page.html", text=True)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.split()[:4] == ["file", "verdict", "spoof", "llr"]
    assert shown.stdout.splitlines()[1].startswith("clip.flac")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    nowhere = earmark(str(spoof), "--model", "nowhere", text=True)
    assert (nowhere.returncode, nowhere.stderr.splitlines()[0].split(":")[:2]) == (2, ["error", " nowhere is no model of earmark"])


def test_the_published_schema_is_that_of_the_code():
    from earmark.verdict.command import schema

    assert (ROOT / "docs/verdict.schema.json").read_text() == schema() + "\n"


def test_an_enrolled_source_may_claim_a_recording(model, judge, spoof, tmp_path, monkeypatch):
    ensemble = model / "tracer" / FILE
    with open_recordings(spoof, judge.system.params.decoding, judge.system.params.audio, judge.system.transform) as opened:
        (recording,) = opened.recordings
        answer = judge.system.trace(recording, [(0, len(recording.raw))])
    clips = {str(number): "x" for number in range(5)}
    enrolled = Enrolled.load(tmp_path / "none", ensemble)
    enrolled.add("vendor", np.repeat(answer.embeddings, 5, 0), clips, judge.system.ensemble).save(tmp_path / "enrolled")
    with_it = load_judge(model, "model", tmp_path / "enrolled", CPU, None)
    assert with_it._claimed(answer) == "vendor"
    monkeypatch.setattr(Judge, "_spoofed_parts", lambda *_: [])  # so that the whole is traced
    assert with_it.judge(spoof)[0].source.answer == "vendor"
    with pytest.raises(InputError, match=r"nowhere does not exist: `earmark enrol` makes it"):
        load_judge(model, "model", tmp_path / "nowhere", CPU, None)


def test_losses_are_what_the_score_loses(judge, spoof):
    system = judge.system
    with open_recordings(spoof, system.params.decoding, system.params.audio, system.transform) as opened:
        (recording,) = opened.recordings
        heard = system.hear(recording)
        found = explain(system, recording, heard, "spoof")
        assert found.start == heard.starts[heard.scores.argmin()]
        waveform, cqt, _ = Clips(recording, system.params.audio, system.params.cqt)[WHOLE, found.start, 0]
    with torch.no_grad():
        full = system.detector(waveform[None], cqt[None]).cm_score.item()
        deaf = system.detector(torch.zeros_like(waveform)[None], cqt[None]).cm_score.item()
        late, flat = waveform.clone(), cqt.clone()
        late[-(len(late) // MOMENTS) :] = 0
        first = int(np.ceil(cqt.shape[-1] * (MOMENTS - 1) / MOMENTS))
        flat[0, :, first:], flat[1, :, first:] = cqt[0].mean(), 0
        end = system.detector(late[None], flat[None]).cm_score.item()
    assert found.by_view["waveform"] == pytest.approx(full - deaf, abs=1e-5)
    assert found.by_time[-1] == pytest.approx(full - end, abs=1e-5)
    assert found.by_bin.shape == (BANDS, MOMENTS)
    assert np.abs(found.by_bin).max() > 0
