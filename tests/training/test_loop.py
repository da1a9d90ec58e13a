import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from earmark import InputError, params, stages
from earmark.networks.compute import accelerator
from earmark.networks.detector import load_detector
from earmark.params import ComputeParams, LossParams, Params, TrainingParams
from earmark.storage import checkpoint
from earmark.storage.files import read_table, write_table
from earmark.training.detect import DetectorTask, class_weights, start, train_detector
from earmark.training.loop import Runner, State, fit

DETECTOR, STATE = "artifacts/detectors/wavespec.safetensors", "artifacts/detectors/wavespec.state.safetensors"
# everything that draws: dropout, RawBoost, blanked bands, balanced draws, random crops
DRAWING = {
    "augmentation": {"rawboost": 4, "probability": 0.7, "spectrogram_bands": 16},
    "network": {"encoder": {"dropout": 0.1}, "dropout": 0.2},
    "training": {"balance": True, "epochs": 3},
}


def prepare_task(settings: Params, features, rows: pd.DataFrame, dev: pd.DataFrame | None = None, kind=DetectorTask):
    """State and task of a detector's training."""
    member = settings.detector.members["wavespec"]
    runner = accelerator(settings.compute, member.training)
    state = start(rows, member, settings.cqt, settings.seed)
    network = state.objective.get_submodule("network")
    sections = (settings.audio, settings.cqt, member.augmentation, member.training, settings.scoring.batch_size)
    return state, kind(network, features, rows, rows if dev is None else dev, *sections, settings.seed, runner)


def run(state: State, task, settings: Params, place: Path) -> list[dict[str, float]]:
    training = settings.detector.members["wavespec"].training
    return fit(state, task, Runner(training, settings.seed, place / "state.safetensors", {"seed": settings.seed}, task.accelerator))


def train(settings: Params, workspace: Path) -> dict[str, float]:
    """WaveSpec alone."""
    return stages.run("train_detector", settings, workspace, member="wavespec")


def launch(workspace: Path, settings: Params, *launcher: str, **environment: str) -> subprocess.Popen:
    """`earmark train_detector` as a user starts it, in a workspace."""
    (workspace / "params.yaml").write_text(params.dump(settings))
    command = [sys.executable, *launcher, "-m", "earmark", "train_detector", "--member", "wavespec"]
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.Popen(command, cwd=workspace, env=variables, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def test_wavespec_learns_8_clips_by_heart(features, protocol, change, tmp_path):
    chosen = protocol[(protocol["split"] == "train") & ~protocol["copied"]]
    rows = pd.concat([chosen[chosen["key"] == key][:4] for key in ("bonafide", "spoof")])
    quiet = {"network": {"dropout": 0.0, "view_dropout": 0.0, "encoder": {"dropout": 0.0}}, "augmentation": {"rawboost": 0}}
    training = {"epochs": 10, "repeats": 8, "batch_size": 8, "lr": 1e-2, "warmup_steps": 4}
    settings = change(training=training, **quiet)
    state, task = prepare_task(settings, features, rows)
    history = run(state, task, settings, tmp_path)
    print(history)
    assert task.validate()["dev/eer"] == 0
    assert [row["dev/eer"] for row in history[-5:]] == [0] * 5
    assert history[-1]["cross_entropy"] < 0.5 * history[0]["cross_entropy"]


def test_a_run_killed_inside_an_epoch_goes_on_to_the_same_bytes(prepared, workspace, change, tmp_path):
    settings = change(**DRAWING)
    process = launch(workspace, settings)
    while process.poll() is None:
        if (workspace / STATE).exists():
            # a copy, since the run may put a new file in its place while it is read
            reached = checkpoint.load(Path(shutil.copy(workspace / STATE, tmp_path / "seen.safetensors")))[1]["counters"]
            if reached["epoch"] == 1 and reached["step"]:
                break
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    reached = checkpoint.load(workspace / STATE)[1]["counters"]
    assert reached["step"] > 0
    assert not (workspace / DETECTOR).exists()
    train(settings, workspace)
    assert not (workspace / STATE).exists()
    whole = Path(shutil.copytree(prepared, tmp_path / "whole"))
    train(settings, whole)
    assert (workspace / DETECTOR).read_bytes() == (whole / DETECTOR).read_bytes()
    history = "artifacts/detectors/wavespec.csv"
    assert (workspace / history).read_text() == (whole / history).read_text()


def test_two_processes_end_as_one_that_accumulates_the_same_half_batches(prepared, workspace, change, tmp_path):
    """All parameters and the training losses. The running statistics of batch norms are each process's own mean over its half
    batches, averaged at the end of an epoch, where one process has a moving mean over all of them: those differ."""
    settings = change(**DRAWING | {"training": {"balance": True, "epochs": 1}})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = launch(workspace, settings, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    one = Path(shutil.copytree(prepared, tmp_path / "one"))
    train(change(**DRAWING | {"training": {"balance": True, "epochs": 1, "accumulation": 2}}), one)
    (pair, _), (single, _) = (checkpoint.load(place / DETECTOR) for place in (workspace, one))
    learned = [name for name in single if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert len(learned) > 100
    for name in learned:
        torch.testing.assert_close(pair[name], single[name], atol=1e-6, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
    histories = (pd.read_csv(place / "artifacts/detectors/wavespec.csv") for place in (workspace, one))
    pd.testing.assert_frame_equal(*(history[["loss", "cross_entropy", "single_center"]] for history in histories), atol=1e-6, rtol=0)


def test_a_checkpoint_of_other_settings_or_data_is_refused_naming_them(workspace, change):
    settings = change(training={"lr": 1e15, "clip_norm": 1e30})
    with pytest.raises(InputError, match=r"the loss is (nan|inf|-inf) in epoch 1, step \d+: lower training\.lr"):
        train(settings, workspace)
    assert (workspace / STATE).exists()
    assert not (workspace / DETECTOR).exists()
    other = change(training={"lr": 1e-3, "clip_norm": 1e30}, audio={"level_dbfs": -25.0}, seed=3)
    with pytest.raises(
        InputError,
        match=r"state\.safetensors is of a run with other audio\.level_dbfs, detector\.members\.wavespec\.training\.lr, seed: restore",
    ):
        train(other, workspace)
    table = read_table(workspace / stages.ARTIFACTS["protocol"])
    write_table(workspace / stages.ARTIFACTS["protocol"], table[table["utterance_id"] != "train-spoof-3"])
    with pytest.raises(InputError, match="is of a run with other training data: "):
        train(settings, workspace)


@pytest.mark.parametrize("size", [0, 7, 5000, -9])
def test_a_corrupt_checkpoint_is_named(workspace, tiny, size):
    (workspace / "artifacts/detectors").mkdir()
    path = workspace / STATE
    checkpoint.save(path, {"a": torch.zeros(5000)}, {})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"state\.safetensors is corrupt"):
        train(tiny, workspace)


def test_a_batch_that_cannot_be_divided_or_filled_is_refused(workspace, change):
    with pytest.raises(
        InputError, match=r"training\.batch_size 4 of a detector's member must be a multiple of, and at least twice, .* = 3"
    ):
        train(change(training={"accumulation": 3}), workspace)
    with pytest.raises(InputError, match=r"train has 21 utterances, fewer than training\.batch_size 64"):
        train(change(training={"batch_size": 64}), workspace)


@pytest.mark.parametrize(("split", "key"), [("train", "bonafide"), ("train", "spoof"), ("dev", "spoof")])
def test_a_split_of_one_class_is_refused(workspace, tiny, split, key):
    path = workspace / stages.ARTIFACTS["protocol"]
    table = read_table(path)
    write_table(path, table[(table["split"] != split) | (table["key"] != key)])
    with pytest.raises(InputError, match=f"{split} is of one class: .* none is {key}"):
        train(tiny, workspace)


def test_a_gpu_that_is_not_there_is_said(workspace, change):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="torch sees no GPU: check the driver"):
        train(change(compute={"device": "cuda"}), workspace)


def test_a_seed_gives_the_same_detector_twice_and_another_seed_another(done, workspace, tiny, change):
    train(tiny, workspace)
    assert (workspace / DETECTOR).read_bytes() == (done / DETECTOR).read_bytes()
    shutil.rmtree(workspace / "artifacts/detectors")
    train(change(seed=3), workspace)
    assert (workspace / DETECTOR).read_bytes() != (done / DETECTOR).read_bytes()


class Watched(DetectorTask):
    """Keeps the encoder's weights after each epoch."""

    def validate(self) -> dict[str, float]:
        self.seen = [*getattr(self, "seen", []), {name: tensor.clone() for name, tensor in self.network.encoder.state_dict().items()}]
        return {"dev/eer": 0.5 / len(self.seen)}


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_pretrained_encoder_is_frozen_in_the_first_epochs_and_then_trained(features, protocol, change, tmp_path, frozen):
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=16, num_attention_heads=2, intermediate_size=64, num_hidden_layers=4, conv_dim=(8,) * 7, do_stable_layer_norm=True,
        feat_extract_norm="layer", num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    published = Wav2Vec2Model(config)
    published.save_pretrained(tmp_path / "published")
    settings = change(
        network={"encoder": {"pretrained": str(tmp_path / "published")}},
        training={"epochs": 2, "frozen_epochs": frozen, "encoder_lr": 1e-3, "batch_size": 8},
    )
    state, task = prepare_task(settings, features, protocol[protocol["split"] == "train"], kind=Watched)
    assert [group["base_lr"] for group in state.optimizer.param_groups] == [3e-3, 1e-3]
    first = {name: tensor.clone() for name, tensor in task.network.encoder.state_dict().items()}
    loaded = {name: tensor for name, tensor in published.state_dict().items() if f"model.{name}" in first}
    assert len(loaded) == len(first)
    assert all(torch.equal(first[f"model.{name}"], tensor) for name, tensor in loaded.items())
    run(state, task, settings, tmp_path)
    changed = [any(not torch.equal(seen[name], before) for name, before in first.items()) for seen in task.seen]
    assert changed == [not frozen, True]


@pytest.mark.parametrize(
    ("training", "steps"), [({"repeats": 1}, 5), ({"repeats": 3}, 15), ({"balance": True}, 3), ({"balance": True, "repeats": 2}, 7)]
)
def test_an_epoch_has_the_whole_batches_of_what_it_draws(features, protocol, change, training, steps):
    """Of 21 utterances, 7 of them bona fide, in batches of 4."""
    _, task = prepare_task(change(training=training), features, protocol[protocol["split"] == "train"])
    assert task.steps(0) == steps
    batches = [(number, labels) for number, (_, _, labels) in task.batches(0, 0)]
    assert [number for number, _ in batches] == list(range(steps))
    assert all(len(labels) == 4 for _, labels in batches)
    later = [(number, labels) for number, (_, _, labels) in task.batches(0, 2)]
    assert [number for number, _ in later] == list(range(2, steps))
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(batches[2:], later, strict=True))


def test_class_weights_are_inverse_to_how_often_a_key_is_drawn():
    rows = pd.DataFrame({"key": ["bonafide"] * 3 + ["spoof"] * 9})
    by_frequency = LossParams(class_weights="inverse_frequency")
    assert class_weights(rows, by_frequency, TrainingParams()) == (0.25, 0.75)
    assert class_weights(rows, by_frequency, TrainingParams(balance=True)) == (0.5, 0.5)
    assert class_weights(rows, LossParams(class_weights=(0.1, 0.9)), TrainingParams()) == (0.1, 0.9)


class Line(nn.Module):
    """One weight to learn; `network` holds it, as the loop wants."""

    def __init__(self):
        super().__init__()
        self.network = nn.Linear(1, 1)

    def forward(self, x):
        return {"loss": (self.network(x) - 2 * x).square().mean()}


class LineTask:
    """A task of two batches an epoch with a given course of dev EER."""

    criterion = "dev/eer"

    def __init__(self, objective: Line, optimizer: torch.optim.Optimizer, course: list[float]):
        self.objective, self.optimizer, self.course, self.weights, self.rates = objective, optimizer, course, [], []

    def steps(self, epoch):
        return 2

    def begin_epoch(self, epoch):
        pass

    def batches(self, epoch, first):
        return ((number, torch.full((4, 1), 1.0 + number)) for number in range(first, 2))

    def forward(self, model, batch, generator):
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        return model(batch + 0.1 * torch.randn(batch.shape, generator=generator))

    def validate(self):
        self.weights.append(self.objective.network.weight.item())
        return {"dev/eer": self.course[len(self.weights) - 1]}


def follow(course: list[float], place: Path, **training) -> tuple[LineTask, State, list[dict[str, float]]]:
    torch.manual_seed(0)
    objective, settings = Line(), TrainingParams(epochs=len(course), **training)
    optimizer = torch.optim.Adam([{"params": list(objective.parameters()), "base_lr": 0.1}], lr=0.1)
    state, task = State(objective, optimizer), LineTask(objective, optimizer, course)
    runner = Runner(settings, 1, place / "state.safetensors", {}, accelerator(ComputeParams(device="cpu", threads=1), settings))
    return task, state, fit(state, task, runner)


def test_the_learning_rate_is_halved_every_so_many_epochs_when_asked_for(tmp_path):
    task, _, _ = follow([0.4] * 5, tmp_path, halve_epochs=2)
    assert task.rates == pytest.approx([0.1] * 4 + [0.05] * 4 + [0.025] * 2)


def test_the_network_ends_with_the_weights_of_the_best_dev_epoch(tmp_path):
    task, state, history = follow([0.4, 0.2, 0.1, 0.3], tmp_path)
    assert state.best_epoch == 2
    assert task.objective.network.weight.item() == task.weights[2] != task.weights[3]
    assert [row["dev/eer"] for row in history] == [0.4, 0.2, 0.1, 0.3]
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]


def test_the_last_epoch_is_kept_where_that_is_asked_for(tmp_path):
    task, state, history = follow([0.4, 0.2, 0.1, 0.3], tmp_path, keep="last", patience=1)
    assert (state.best_epoch, len(history)) == (3, 4)
    assert task.objective.network.weight.item() == task.weights[3]


def test_training_stops_after_patience_epochs_without_a_better_eer(tmp_path):
    _, state, history = follow([0.4, 0.2, 0.3, 0.2, 0.1, 0.1], tmp_path, patience=2)
    assert len(history) == 4
    assert state.best_epoch == 1


def test_the_rate_warms_up_and_falls_to_0_along_a_cosine(tmp_path):
    task, _, _ = follow([0.5] * 5, tmp_path, warmup_steps=3)
    cosine = [0.05 * (1 + math.cos(math.pi * step / 10)) for step in range(10)]
    warm = [min(1, (step + 1) / 4) for step in range(10)]
    assert task.rates == pytest.approx([one * other for one, other in zip(cosine, warm, strict=True)], abs=1e-7)


def test_a_checkpoint_comes_back_whole(tmp_path):
    tensors, meta = {"a": torch.arange(3), "b": torch.tensor(0.5), "c": torch.randn(2, 3).T}, {"identity": {"x": [1, None, "ü"]}}
    checkpoint.save(tmp_path / "a.safetensors", tensors, meta)
    found, same = checkpoint.load(tmp_path / "a.safetensors")
    assert same == meta
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_a_detector_carries_its_params_and_nothing_else_is_needed(done, tiny):
    network, meta = load_detector(done / DETECTOR)
    own = tiny.detector.members["wavespec"]
    assert network.params == own.network
    assert not network.training
    assert meta["identity"]["detector.members.wavespec.training.lr"] == own.training.lr
    assert {"audio", "cqt", "encoder", "identity", "figures"} <= meta.keys()


def test_a_file_that_holds_no_detector_is_refused(tmp_path):
    checkpoint.save(tmp_path / "a.safetensors", {"a": torch.zeros(1)}, {})
    with pytest.raises(InputError, match=r"a\.safetensors holds no detector"):
        load_detector(tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"b\.safetensors does not exist: run the stage"):
        load_detector(tmp_path / "b.safetensors")


def test_training_needs_no_stage_runner(workspace, tiny):
    sections = {name: getattr(tiny, name) for name in stages.STAGES["train_detector"].sections}
    places = {name: workspace / stages.ARTIFACTS[name] for name in ("protocol", "features")}
    row = train_detector(**sections, **places, output=workspace / "elsewhere")
    assert row.keys() >= {f"{name}/dev/eer" for name in tiny.detector.members}
    assert all(0 <= row[f"{name}/dev/eer"] <= 1 for name in tiny.detector.members)
    assert {path.name for path in (workspace / "elsewhere").iterdir()} == {
        *("wavespec.safetensors", "wavespec.csv", "linear.safetensors", "linear.csv", "lfcc_gmm.safetensors")
    }
