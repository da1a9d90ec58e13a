"""Tables of verdicts on real recordings: calibration, decisions, spliced-in spoofs, films, and an hour's memory."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pandas as pd
import soundfile
from rich.progress import track

from earmark.audio.decode import SAMPLE_RATE, read
from earmark.evaluation.breakdowns import by_key
from earmark.metrics.detection import DetectionCurve, cllr
from earmark.model.calibration import Calibration
from earmark.model.manifest import read_manifest
from earmark.params import ComputeParams, DecodingParams
from earmark.storage.files import read_table
from earmark.verdict.judge import Judge, load_judge

SPLICES, FILMS = 40, 20
AROUND, INSIDE, START = 45.0, 3.0, 20.5  # seconds
HOUR = 3600
PEAK = """
import sys
from earmark.__main__ import main
sys.argv = ["earmark", *sys.argv[1:]]
try:
    main()
finally:
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
"""


def tables(workspace: Path) -> str:
    """Markdown of everything that the model of a finished run says of eval."""
    protocol = read_table(workspace / "artifacts/protocol.parquet").set_index("utterance_id")
    protocol["path"] = [str(workspace / path) for path in protocol["path"]]
    model = workspace / "artifacts/model"
    calibration = Calibration(**read_manifest(model)["calibration"])
    trials = read_table(workspace / "artifacts/ensemble/scores.parquet").set_index("utterance_id").join(protocol)
    judge = load_judge(model, str(model), None, ComputeParams(), None)
    chosen = trials[trials["split"] == "eval"]
    made = workspace / "made"
    made.mkdir(exist_ok=True)
    parts = [calibrated(trials, calibration), decided(chosen, calibration), spliced(judge, chosen, made), filmed(judge, chosen, made)]
    return "\n\n".join([*parts, hour(model, chosen, made)])


def calibrated(trials: pd.DataFrame, calibration: Calibration) -> str:
    rows = []
    for split in ("dev", "eval"):
        part = trials[trials["split"] == split]
        part = part.assign(llr=calibration.llr(part["cm_score"]))
        before, after = (cllr(DetectionCurve.of(*by_key(part, column))) for column in ("cm_score", "llr"))
        rows.append(f"| {split} | {before:.3f} | {after:.3f} |")
    return "\n".join(
        ["Cllr in bits, of the score as it is and calibrated on dev.", "", "| split | before | after |", "|---|---|---|", *rows]
    )


def decided(trials: pd.DataFrame, calibration: Calibration) -> str:
    what = pd.Series([calibration.decide(llr) for llr in calibration.llr(trials["cm_score"])], trials.index)
    marked = calibration.llr(trials["lowest"]) <= calibration.part_below
    rows = []
    for key in ("bonafide", "spoof"):
        own = (trials["key"] == key).to_numpy()
        counts = [(what[own] == decision).sum() for decision in ("bonafide", "inconclusive", "spoof")]
        rows.append(f"| {key} ({own.sum()}) | {' | '.join(map(str, counts))} | {100 * marked[own].mean():.0f} % |")
    head = "| eval trials | bona fide | inconclusive | spoof | with a window below the bound for parts |\n|---|---|---|---|---|"
    return "\n".join(["Decisions on whole utterances, at bounds fitted on dev.", "", head, *rows])


def spliced(judge: Judge, trials: pd.DataFrame, folder: Path) -> str:
    """Bona fide speech with seconds of a spoof in it, against the same without."""
    rng = np.random.default_rng(688)
    spoofs = trials[(trials["key"] == "spoof") & (trials["origin"] != "local")]
    around, start = round(AROUND * SAMPLE_RATE), round(START * SAMPLE_RATE)
    rows = []
    for number in track(range(SPLICES), "splices", transient=True):
        speech = next(stretches(trials[trials["key"] == "bonafide"], around, rng))
        piece = long_enough(spoofs, rng, round(INSIDE * SAMPLE_RATE))
        whole = np.concatenate([speech[:start], piece, speech[start + len(piece) :]])
        found = []
        for sound in (whole, speech):
            soundfile.write(folder / "splice.wav", sound, SAMPLE_RATE)
            parts = judge.judge(folder / "splice.wav")[0].spoofed_parts
            inside = sum(max(0.0, min(part.end, START + INSIDE) - max(part.start, START)) for part in parts)
            found.append((inside, sum(part.end - part.start for part in parts) - inside))
        rows.append((number, *found[0], sum(found[1])))
    table = pd.DataFrame(rows, columns=["splice", "inside", "outside", "without"])
    hit, clean = 100 * (table["inside"] > 0).mean(), 100 * (table["without"] == 0).mean()
    return (
        f"{SPLICES} times {AROUND:g} s of bona fide eval clips with {INSIDE:g} s of an eval spoof (no classical engine) at {START:g} s: "
        f"the spoof is marked in {hit:.0f} %, and then {table.loc[table['inside'] > 0, 'inside'].mean():.1f} s of it; "
        f"of the {AROUND - INSIDE:g} s around it {table['outside'].mean():.1f} s are marked on average; "
        f"without the spoof {table['without'].mean():.1f} s of {AROUND:g} s, and nothing in {clean:.0f} %."
    )


def filmed(judge: Judge, trials: pd.DataFrame, folder: Path) -> str:
    """The audio track of an MP4 film against the file it was made of."""
    apart, same = [], 0
    for path in track(trials.sample(FILMS, random_state=688)["path"].to_list(), "films", transient=True):
        film(Path(path), folder / "film.mp4")
        (plain,), (coded,) = judge.judge(Path(path)), judge.judge(folder / "film.mp4")
        apart.append(abs(plain.llr - coded.llr))
        same += plain.decision == coded.decision
    return (
        f"{FILMS} eval clips as the AAC track (128 kbit/s) of an MP4 film: the llr moves by {np.mean(apart):.2f} on average "
        f"(at most {np.max(apart):.2f}), the decision stays in {same}."
    )


def film(path: Path, output: Path) -> None:
    """A black film with the recording's sound."""
    waveform, _ = read(path, DecodingParams())
    with av.open(str(output), "w") as container:
        video = container.add_stream("mpeg4", rate=25, width=64, height=48, pix_fmt="yuv420p")
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono", bit_rate=128_000)
        for _ in range(int(len(waveform) / SAMPLE_RATE * 25)):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))))
        frame = av.AudioFrame.from_ndarray(waveform[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        container.mux(audio.encode(frame))
        for stream in (video, audio):
            container.mux(stream.encode(None))


def hour(model: Path, trials: pd.DataFrame, folder: Path) -> str:
    """`earmark check` of an hour of bona fide clips, in a process of its own."""
    sound = next(stretches(trials[trials["key"] == "bonafide"], HOUR * SAMPLE_RATE, np.random.default_rng(688)))
    soundfile.write(folder / "hour.flac", sound, SAMPLE_RATE)
    peaks, verdicts = [], []
    for path in (str(trials["path"].iloc[0]), str(folder / "hour.flac")):
        command = [sys.executable, "-c", PEAK, "check", path, "--json", "--model", str(model)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        verdicts.append(json.loads(done.stdout))
        peaks.append(int(done.stderr.split("VmHWM:")[1].split()[0]) / 1e6)
    parts = verdicts[1]["spoofed_parts"]
    return (
        f"One hour of bona fide clips: the process peaks at {peaks[1]:.2f} GB, that for a clip of a few seconds at {peaks[0]:.2f} GB; "
        f"{len(parts)} stretches, {sum(part['end'] - part['start'] for part in parts):.0f} s in all, are marked, and it is called "
        f"{verdicts[1]['decision']}."
    )


def stretches(trials: pd.DataFrame, samples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Clips in random order, one after another, until there are so many samples; clips recur where all are used up."""
    while True:
        clips: list[np.ndarray] = []
        while sum(map(len, clips)) < samples:
            clips += [
                read(Path(path), DecodingParams())[0]
                for path in rng.permutation(trials["path"].to_numpy(str))[: 1 + samples // SAMPLE_RATE]
            ]
        yield np.concatenate(clips)[:samples]


def long_enough(trials: pd.DataFrame, rng: np.random.Generator, samples: int) -> np.ndarray:
    """The beginning of a random clip that lasts so long."""
    for path in rng.permutation(trials["path"].to_numpy(str)):
        waveform, _ = read(Path(path), DecodingParams())
        if len(waveform) >= samples:
            return waveform[:samples]
    raise SystemExit(f"error: no clip has {samples} samples")
