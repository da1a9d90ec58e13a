"""`earmark check` on real files with the model that the stages made."""

import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf
import torch

from earmark import InputError, stages
from earmark.cli.check import check
from earmark.ensemble.enrolment import Enrolled
from earmark.ensemble.fusion import FILE
from earmark.features.recording import Recording, open_recordings
from earmark.model.calibration import Calibration
from earmark.params import ComputeParams
from earmark.storage.files import read_table
from earmark.verdict.answer import Failure, Verdict
from earmark.verdict.evidence import BANDS, MOMENTS, Losses, explain
from earmark.verdict.files import Options
from earmark.verdict.judge import Judge, load_judge
from earmark.verdict.page import draw_evidence

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests/cases"
CPU = ComputeParams(device="cpu", threads=1)


@pytest.fixture(scope="module")
def model(done) -> Path:
    return done / stages.ARTIFACTS["model"]


@pytest.fixture(scope="module")
def judge(model) -> Judge:
    return load_judge(model, "model", None, CPU, None)


@pytest.fixture(scope="module")
def telling(judge) -> Judge:
    """The judge with a calibration that says something, whatever a few steps on a few clips have taught the detector on this processor."""
    return replace(
        judge, system=replace(judge.system, calibration=Calibration(1.0, 0.0, spoof_below=-1.0, bonafide_above=1.0, part_below=-3.0))
    )


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
    scores = read_table(done / stages.ARTIFACTS["answers"] / "scores.parquet").set_index("utterance_id")
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


def test_a_spliced_part_is_marked_and_the_whole_is_not_called_bona_fide(telling, tmp_path):
    """The judge is given scores: what is tested is what it makes of them."""
    path = tmp_path / "long.wav"
    sf.write(path, np.random.default_rng(0).normal(size=16_000 * 20) * 0.1, 16_000)
    calibration, system = telling.system.calibration, telling.system
    good, bad = calibration.bonafide_above + 5, calibration.part_below - 5
    with open_recordings(path, system.params.decoding, system.params.audio, system.transform) as opened:
        (recording,) = opened.recordings
        heard = system.hear(recording)
        inside = (heard.starts >= 16_000 * 10) & (heard.starts < 16_000 * 11.5)
        scores = (np.where(inside, bad, good) - calibration.intercept) / calibration.slope
        verdict = telling.conclude(path, "long", recording, opened, replace(heard, scores=scores))
        even = replace(heard, scores=np.full_like(scores, scores.max()))
        calm = telling.conclude(path, "long", recording, opened, even)
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
    from earmark.cli.check import schema

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


def test_recordings_heard_together_are_heard_as_alone(judge, spoof, corpus):
    system, p = judge.system, judge.system.params
    sounds = [sound(path) for path in (spoof, corpus / "bonafide/eval-bonafide-0.flac", corpus / "bonafide/eval-bonafide-2.flac")]
    assert len({len(one) for one in sounds}) == 3
    recordings = [Recording(one, p.audio, system.transform) for one in sounds]
    told = []
    for together, recording in zip(system.hear_all(recordings, lambda *seen: told.append(seen)), recordings, strict=True):
        alone = system.hear(recording)
        assert together.starts.tolist() == alone.starts.tolist()
        np.testing.assert_allclose(together.scores, alone.scores, atol=1e-4)
        np.testing.assert_allclose(together.embedding, alone.embedding, atol=1e-4)
    assert told[-1][0] == told[-1][1] > 3


def test_losses_are_what_the_score_loses(judge, spoof):
    system = judge.system
    with open_recordings(spoof, system.params.decoding, system.params.audio, system.transform) as opened:
        (recording,) = opened.recordings
        heard = system.hear(recording)
        found = explain(system, recording, heard, "spoof")
        assert found.start == heard.starts[heard.scores.argmin()]
    losses = Losses(system, torch.from_numpy(found.waveform).float())
    part = torch.zeros(losses.spectrum.shape[-2:], dtype=torch.bool)
    part[:, int(np.ceil(part.shape[1] * (MOMENTS - 1) / MOMENTS)) :] = True
    with torch.no_grad():
        full = losses.score(losses.spectrum).item()
        late = losses.score(torch.where(part, losses.baseline, losses.spectrum)).item()
    assert full == pytest.approx(found.score, abs=0.1)  # a clip's CQT differs at its ends from that of the whole recording
    assert found.score == pytest.approx(sum(found.by_member.values()))
    assert found.by_time[-1] == pytest.approx(full - late, abs=1e-4)
    assert found.by_band.shape == (BANDS, MOMENTS)
    assert np.abs(found.by_band).max() > 0


def test_what_takes_a_part_s_place_has_the_clip_s_own_spectrum(judge, spoof):
    system = judge.system
    with open_recordings(spoof, system.params.decoding, system.params.audio, system.transform) as opened:
        found = explain(system, opened.recordings[0], system.hear(opened.recordings[0]), "spoof")
    losses = Losses(system, torch.from_numpy(found.waveform).float())
    heard, noise = (part.square().sum(1).mean(-1) for part in (losses.spectrum, losses.baseline))
    torch.testing.assert_close(heard, noise, rtol=1e-3, atol=1e-9)
    level, by_band, by_time = draw_evidence(found).axes
    assert level.get_images()[0].get_extent()[3] == by_band.get_images()[0].get_extent()[3] == 8
    assert len(by_time.patches) == MOMENTS


def test_channels_that_differ_are_judged_apart(capsys, judge, tmp_path):
    call = CASES / "stereo-call"
    (left,), (right,) = (judge.judge(call / name) for name in ("left.flac", "right.flac"))
    code, lines = run(capsys, judge, [call / "agent_left_customer_right.flac"], Options(json=True))
    assert code == 0
    assert [line["channel"] for line in lines] == [1, 2]
    assert [line["llr"] for line in lines] == [left.llr, right.llr]
    assert [one["number"] for one in lines[0]["channels"]] == [1, 2]
    assert all("channels" in {caution["code"] for caution in line["cautions"]} for line in lines)
    code, (line,) = run(capsys, judge, [call / "agent_left_customer_right.flac"], Options(json=True, channel=2))
    assert (code, line["channel"], line["llr"]) == (0, 2, right.llr)
    code, (line,) = run(capsys, judge, [call / "agent_left_customer_right.flac"], Options(json=True, channel=3))
    assert (code, line["error"].split(": ")[1:]) == (3, ["has no channel 3", "it has 2"])


def test_channels_that_were_not_heard_are_said_and_no_others(judge, tmp_path):
    rng = np.random.default_rng(3)
    voice, other = rng.normal(size=(2, 16_000 * 3)) * 0.1
    unheard, alone = "was not heard: 50 dB or more below the loudest", "was judged by itself"
    said = {
        "quiet": ((voice, voice, -3e-4 * voice), [f"channel 3 of 3 {unheard}"]),
        "leak": ((voice, 3e-4 * other), [f"channel 1 of 2 {alone}; channel 2 of 2 {unheard}"]),
        "turned": ((voice, -voice, 0 * voice), ["channel 2 is another one inverted: it was turned round; channel 3 of 3 is silent"]),
        "apart": (
            (voice, other, 1e-4 * other, 0 * voice),
            [f"channel {number} of 4 {alone}; channel 3 of 4 {unheard}; channel 4 of 4 is silent" for number in (1, 2)],
        ),
        "alike": ((voice, voice), [None]),
    }
    for name, (channels, expected) in said.items():
        sf.write(tmp_path / f"{name}.wav", np.stack(channels, axis=1), 16_000, subtype="FLOAT")
        found = judge.judge(tmp_path / f"{name}.wav")
        texts = [next((caution.text for caution in one.cautions if caution.code == "channels"), None) for one in found]
        assert texts == expected
    (chosen,) = judge.judge(tmp_path / "leak.wav", channel=2)
    (text,) = (caution.text for caution in chosen.cautions if caution.code == "channels")
    assert text == "channel 2 of 2 was judged by itself"


def test_tracks_are_listed_and_one_may_be_chosen(capsys, judge):
    film = CASES / "several-tracks/two_speakers_two_tracks.mp4"
    (first,), (second,) = (judge.judge(film, track=number) for number in (None, 2))
    assert (first.track, second.track) == (1, 2)
    assert first.cm_score != second.cm_score
    assert [track.number for track in first.tracks] == [1, 2]
    assert "track 1 of 2 was judged; not heard: 2 (aac; --track 2)" in [caution.text for caution in first.cautions]
    (spoken,) = judge.judge(CASES / "several-tracks/first_track_silent_second_speech.mp4")
    assert spoken.track == 2


def test_what_a_file_says_of_itself_reaches_no_terminal(capsys, judge, tmp_path):
    content = (CASES / "several-tracks/two_speakers_two_tracks.mp4").read_bytes().replace(b"esds", b"none")
    place = content.rindex(b"mp4a")
    (tmp_path / "a.mp4").write_bytes(content[:place] + b"\x1b[2J" + content[place + 4 :])
    (verdict,) = judge.judge(tmp_path / "a.mp4")
    assert all(caution.text.isprintable() for caution in verdict.cautions)
    assert any(r"2 (\x1b[2J: no decoder" in caution.text for caution in verdict.cautions)
    assert check(judge, [str(tmp_path / "a.mp4")], Options()) == 0
    assert "\x1b[2J" not in capsys.readouterr().out


def test_what_was_not_heard_of_a_file_is_part_of_its_verdict(judge):
    (damaged,) = judge.judge(CASES / "one-damaged-packet/m4a_40_bytes_damaged_4s.m4a")
    assert damaged.lost_seconds == pytest.approx(0.13, abs=0.01)
    (gap,) = judge.judge(CASES / "one-damaged-packet/webm_2.38s_of_3s.webm")
    assert [(round(one.start, 2), round(one.end, 2)) for one in gap.gaps] == [(1.36, 1.98)]
    assert gap.timeline[-1].end == pytest.approx(3.0, abs=0.02)
    (crashed,) = judge.judge(CASES / "wav-recorder-crashed/data_0_riff_36_4s.wav")
    (whole,) = judge.judge(CASES / "wav-recorder-crashed/riff_0x23_data_0xffffffff_4s_ok.wav")
    assert crashed.llr == whole.llr
    codes = [{caution.code for caution in one.cautions} for one in (damaged, gap, crashed)]
    assert ["damaged" in codes[0], "gaps" in codes[1], "unfinished" in codes[2]] == [True] * 3
    assert not {"damaged", "gaps", "unfinished"} & {caution.code for caution in judge.judge(CASES / "stereo-call/left.flac")[0].cautions}


def test_eight_lossless_forms_have_one_llr(judge):
    forms = ("a.aiff", "a.au", "a.caf", "a.w64", "bw64.wav", "id3_flac.flac", "rf64.wav", "au_unknown.au")
    assert len({judge.judge(CASES / "formats-that-work" / name)[0].llr for name in forms}) == 1


def test_loud_floats_are_not_clipped(judge):
    for name in ("float_hot_2s.wav", "float_int16_range_2s.wav"):
        (found,) = judge.judge(CASES / "float-over-full-scale" / name)
        assert "clipped" not in {caution.code for caution in found.cautions}


def test_names_are_data(capsys, judge, spoof, tmp_path, monkeypatch):
    names = [b"2024-08-20T13:28:35Z.flac", b"Statement [dQw4w9WgXcQ].flac", b"x [/red].flac", b"caf\xe9.flac", b"line\nbreak.flac"]
    names.append(b"n" * 250 + b".flac")
    for name in names:
        place = os.fsencode(tmp_path) + b"/" + name
        os.makedirs(os.path.dirname(place), exist_ok=True)
        shutil.copy(os.fsencode(spoof), place)
    monkeypatch.chdir(tmp_path)
    code, lines = run(capsys, judge, [os.fsdecode(name) for name in names], Options(json=True, html=tmp_path / "pages"))
    assert code == 0
    assert len({line["llr"] for line in lines}) == 1
    assert [line["file"] for line in lines][3:5] == ["caf\\xe9.flac", "line\\nbreak.flac"]
    assert len(list((tmp_path / "pages").iterdir())) == len(names)
    monkeypatch.delenv("COLUMNS", raising=False)
    assert check(judge, [os.fsdecode(name) for name in names], Options()) == 0
    shown = capsys.readouterr().out
    assert "Statement [dQw4w9WgXcQ].flac" in shown
    assert "x [/red].flac" in shown
    assert "n" * 250 + ".flac" in shown  # no terminal sets a width, so nothing is cut


def test_pages_never_meet_and_cost_no_verdict(capsys, judge, spoof, tmp_path):
    case = tmp_path / "case1"
    (case / "a").mkdir(parents=True)
    for place in (case / "a_b.flac", case / "a/b.flac"):
        shutil.copy(spoof, place)
    assert check(judge, [str(case)], Options(html=tmp_path / "pages")) == 0
    assert len(list((tmp_path / "pages").iterdir())) == 2
    with pytest.raises(InputError, match=r"one\.html is one page, and there are 2 files: name a folder"):
        check(judge, [str(case)], Options(html=tmp_path / "one.html"))
    (tmp_path / "full").write_text("no folder")
    capsys.readouterr()
    assert check(judge, [str(spoof)], Options(json=True, html=tmp_path / "full")) == 3
    said = capsys.readouterr()
    assert json.loads(said.out)["decision"]
    assert "its page is missing" in said.err
    call = CASES / "stereo-call/agent_left_customer_right.flac"
    assert check(judge, [str(call)], Options(html=tmp_path / "call.html")) == 0
    assert sorted(path.name for path in tmp_path.glob("call*.html")) == ["call-channel-1.html", "call-channel-2.html"]


@pytest.mark.parametrize("shell", ["{} - <&-", "(ulimit -f 20; cat {file} | {} -)", '{} ""', "(ulimit -f 20; {} <(cat {file}))"])
def test_what_cannot_be_read_to_its_end_is_one_line(model, spoof, tmp_path, shell):
    command = shell.replace("{file}", str(spoof)).replace("{}", f'"{sys.executable}" -m earmark check --model {model}')
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: ")


def test_a_pipe_that_does_not_fit_costs_the_others_nothing(capsys, judge, spoof, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    code, (closed, judged) = run(capsys, judge, ["-", spoof], Options(json=True))
    assert (code, closed) == (3, {"schema_version": 2, "file": "stdin", "error": "stdin: it is closed", "left_out": False})
    assert judged["decision"]


def test_a_page_takes_no_folders_place(judge, spoof, tmp_path):
    (tmp_path / "precious.html").mkdir()
    (tmp_path / "precious.html/notes.txt").write_text("hi")
    with pytest.raises(InputError, match=r"precious\.html: a folder is there"):
        check(judge, [str(spoof)], Options(html=tmp_path / "precious.html"))
    assert (tmp_path / "precious.html/notes.txt").read_text() == "hi"


def test_every_verdict_of_a_call_has_its_own_page(capsys, judge, spoof, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(CASES / "stereo-call/agent_left_customer_right.flac", "call.wav")
    for name in ("call.wav-channel-1", "stdin", "STDIN"):
        shutil.copy(spoof, name)
    (tmp_path / "n").write_bytes(spoof.read_bytes())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper((tmp_path / "n").open("rb")))
    inputs = ["call.wav", "call.wav-channel-1", "-", "stdin", "STDIN", "stdin"]
    code, lines = run(capsys, judge, inputs, Options(json=True, html=Path("pages")))
    assert (code, len(lines)) == (0, 7)
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == [
        "STDIN-3.html", "call.wav-channel-1-2.html", "call.wav-channel-1.html", "call.wav-channel-2.html", "stdin-2.html", "stdin-4.html",
        "stdin.html",
    ]  # fmt: skip


def test_pipes_are_read_as_stdin_is(model, spoof, tmp_path):
    command = f'"{sys.executable}" -m earmark check --model {model} --json <(cat {spoof}) /dev/stdin fifo'
    os.mkfifo(tmp_path / "fifo")
    feed = f"cat {spoof} > fifo & "
    done = subprocess.run(
        ["bash", "-c", feed + command],
        cwd=tmp_path,
        input=spoof.read_bytes(),
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 3
    assert len({(line["llr"], line["sha256"]) for line in lines}) == 1
