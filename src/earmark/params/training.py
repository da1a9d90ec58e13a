"""Settings of the training loop, and of where it runs."""

from typing import Literal

from earmark.params.section import Section, setting


class TrainingParams(Section):
    """The loop."""

    epochs: int = setting(50, "ours", "epochs; dev is scored after each", ge=1)
    repeats: int = setting(1, "ours", "passes over the train split an epoch", ge=1)
    batch_size: int = setting(14, "port", "utterances an optimiser step, over all processes", ge=2)
    accumulation: int = setting(1, "ours", "backward passes an optimiser step", ge=1)
    lr: float = setting(1e-4, "ours", "learning rate of new layers, and of all with a random encoder", gt=0)
    encoder_lr: float = setting(1e-6, "port", "learning rate of a pretrained encoder", ge=0)
    weight_decay: float = setting(1e-4, "port", "Adam's weight decay", ge=0)
    warmup_steps: int = setting(0, "ours", "steps of linear warm-up before the cosine", ge=0)
    halve_epochs: int = setting(0, "ours", "halve the learning rate every so many epochs instead of the cosine; 0: cosine", ge=0)
    frozen_epochs: int = setting(1, "port", "first epochs in which a pretrained encoder is frozen", ge=0)
    patience: int = setting(10, "ours", "epochs without a better dev EER before training stops, unless the last is kept", ge=1)
    keep: Literal["best", "last"] = setting(
        "best", "ours", "epoch whose weights are kept: the best on dev, or the last, where dev has too few trials to tell epochs apart"
    )
    clip_norm: float = setting(1.0, "ours", "largest gradient norm", gt=0)
    balance: bool = setting(False, "ours", "draw bona fide and spoof equally often, made spoofs and others by `copy_share`")
    copy_share: float = setting(0.5, "ours", "share of copy-synthesised clips among spoofs drawn when `balance` is on", ge=0, le=1)
    sources_alike: bool = setting(False, "ours", "with `balance`, draw spoofs of every source equally often, not every spoof")
    checkpoint_minutes: float = setting(10, "ours", "minutes between checkpoints inside an epoch", gt=0)
    loader_workers: int = setting(0, "ours", "processes that read shards; 0: the training process", ge=0)


class ComputeParams(Section):
    """Where and how numbers are computed."""

    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "ours", "cuda fails clearly when no GPU is seen; auto takes one if there is one"
    )
    threads: int = setting(2, "ours", "CPU threads; another number may change the last bits of a result", ge=1)
    precision: Literal["float32", "bfloat16"] = setting("float32", "ours", "autocast of forward passes")
