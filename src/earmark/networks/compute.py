"""Where a trained network runs, and how precisely. Training on several devices is accelerate's, which takes seconds to import."""

import os
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from earmark import InputError
from earmark.params import ComputeParams, TrainingParams

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Processor:
    """One device for a process that works alone. An Accelerator of the training loop has all this too, and may stand in its place."""

    device: torch.device
    precision: torch.dtype | None = None  # of what may be computed less exactly; None: all is in float32
    is_main_process: bool = True

    def autocast(self) -> torch.autocast | nullcontext[None]:
        """What a network is called in."""
        return nullcontext() if self.precision is None else torch.autocast(self.device.type, self.precision)


def processor(compute: ComputeParams) -> Processor:
    """Device and precision of params. Errors: InputError when a GPU was asked for and none is seen."""
    ready(compute)
    cuda = compute.device != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    return Processor(device, torch.bfloat16 if compute.precision == "bfloat16" else None)


def ready(compute: ComputeParams) -> None:
    """Set the number of CPU threads. Errors: InputError when a GPU was asked for and none is seen."""
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise InputError("compute.device is cuda, but torch sees no GPU: check the driver with nvidia-smi, or set compute.device=cpu")
    torch.set_num_threads(compute.threads)


def accelerator(compute: ComputeParams, training: TrainingParams) -> "Accelerator":
    """Device, processes and precision. Errors: InputError when a GPU was asked for and none is seen."""
    from accelerate import Accelerator

    ready(compute)
    precision = "bf16" if compute.precision == "bfloat16" else "no"
    return Accelerator(cpu=compute.device == "cpu", mixed_precision=precision, gradient_accumulation_steps=training.accumulation)
