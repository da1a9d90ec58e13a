"""Checkpoints: safetensors weights with JSON beside them in the file's metadata; no pickle, and loading needs nothing else."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from earmark import InputError
from earmark.storage.files import complete


def save(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and a JSON-able dict as one file, complete or absent."""
    with complete(path) as aside:
        save_file(
            {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, aside, {"earmark": json.dumps(meta)}
        )


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and the dict that `save` wrote. Errors: InputError when the file is missing, corrupt or another's."""
    if not path.exists():
        raise InputError(f"{path} does not exist: run the stage that makes it first")
    try:
        with safe_open(path, framework="pt") as file:
            meta = (file.metadata() or {}).get("earmark")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is corrupt ({error}): remove it and run its stage again") from error
    if meta is None:
        raise InputError(f"{path} was not written by earmark: its metadata lacks the params")
    return tensors, json.loads(meta)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors: `optimizer.<parameter number>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{number}.{name}": torch.as_tensor(value) for number, entry in state.items() for name, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Inverse of `optimizer_tensors`; learning rates stay those of the optimiser given."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".", 2)
            state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The same tensors under a prefix."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def unprefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Inverse of `prefixed`."""
    return {name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}
