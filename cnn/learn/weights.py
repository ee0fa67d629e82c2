"""A file of plain weights: what torch.save(model.state_dict(), path) writes."""

from __future__ import annotations

import pickle
from typing import Any

import torch
from torch import Tensor

from cnn.errors import UserError


def plain_state(path: str) -> dict[str, Tensor]:
    """The tensors by name, on the CPU; UserError for a file that is anything else, or would run code when loaded."""
    try:
        raw: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: refused, it is not made of plain tensors only; save model.state_dict()") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a state_dict, or a damaged one ({str(error).splitlines()[0]})") from error
    if isinstance(raw, dict) and isinstance(raw.get("state_dict"), dict):
        raw = raw["state_dict"]
    if not isinstance(raw, dict) or not all(isinstance(value, Tensor) for value in raw.values()):
        raise UserError(f"{path}: not a state_dict; save model.state_dict() with torch.save")
    return raw
