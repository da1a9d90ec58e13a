"""Pretrained weights: from a pickle of tensors to safetensors, once."""

import pickle
import shutil
from pathlib import Path

from earmark import InputError
from earmark.storage.files import complete

PICKLE, TENSORS, CONFIG = "pytorch_model.bin", "model.safetensors", "config.json"


def convert(content: Path, folder: Path) -> Path:
    """Write `folder`, which transformers' from_pretrained reads, from a folder with pytorch_model.bin and config.json.

    Errors: InputError when the pickle holds anything but tensors.
    """
    import torch
    from safetensors.torch import save_file

    try:
        loaded = torch.load(content / PICKLE, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
        raise InputError(f"{content / PICKLE}: holds no plain tensors, and is not loaded: {str(error).splitlines()[0]}") from None
    if not isinstance(loaded, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in loaded.values()):
        raise InputError(f"{content / PICKLE}: holds something else than tensors by name: it is not used")
    with complete(folder) as aside:
        aside.mkdir()
        shutil.copyfile(content / CONFIG, aside / CONFIG)
        save_file({name: tensor.contiguous().clone() for name, tensor in loaded.items()}, aside / TENSORS, {"format": "pt"})
    return folder
