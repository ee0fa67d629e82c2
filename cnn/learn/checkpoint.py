"""Trained models as files: plain tensors, numbers and strings, which torch loads with weights_only=True."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnn.errors import UserError
from cnn.models import Config, build, name_of

FORMAT = "triton-cnn checkpoint 1"


@dataclass(frozen=True)
class Checkpoint:
    """A model, what it was trained on, and everything needed to go on training it.

    model, config: what `build` takes. classes: one name a score. settings: the values of cnn.learn.settings.Settings.
    history: one dict an epoch. optimizer: AdamW's state; empty where training cannot go on.
    """

    model: str
    config: Config
    state_dict: dict[str, Tensor]
    classes: list[str]
    settings: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    optimizer: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, classes: list[str], **rest: Any) -> Checkpoint:
        """A checkpoint of one of this package's models, its tensors on the CPU."""
        state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        return cls(name_of(model), model.config, state, classes, **rest)  # type: ignore[arg-type]

    @property
    def data(self) -> str:
        """The data set it was trained on, as `cnn.data.load_data` takes it."""
        return str(self.settings.get("data", "digits"))

    @property
    def layout(self) -> str:
        """How `cnn.data.lay_out` prepares an image for the model."""
        return str(self.settings.get("layout", "digit"))

    def require_classes(self, classes: Sequence[str], name: str) -> None:
        """UserError unless the data set of that name has the classes that the model was trained for."""
        if list(classes) != self.classes:
            raise UserError(f"{name} has the classes {list(classes)}, the checkpoint's {self.model} {self.classes}")

    def build(self) -> nn.Module:
        """The trained model, in evaluation mode, on the CPU. UserError when the weights do not fit it."""
        model = build(self.model, self.config)
        try:
            model.load_state_dict(self.state_dict)
        except RuntimeError as error:
            raise UserError(f"the checkpoint's weights do not fit its model {self.model}: {error}") from error
        return model.eval()


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write the file whole or not at all: an interrupted save leaves the previous one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    fields = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    torch.save({"format": FORMAT, **fields}, partial)
    os.replace(partial, path)


def load(path: str | Path, model: str | None = None) -> Checkpoint:
    """Read a file that `save` wrote; FileNotFoundError when there is none.

    UserError for a file that is no checkpoint of ours, would run code when loaded, or holds another model than `model`.
    """
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: refused, it is not made of plain tensors and numbers only") from error
    except Exception as error:
        # A damaged file makes the reader fail in any way.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not a checkpoint, or a damaged one ({reason})") from error
    if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT:
        raise UserError(f"{path}: not a checkpoint that `cnn train` wrote (expected format {FORMAT!r})")
    try:
        checkpoint = Checkpoint(**raw)
    except TypeError as error:
        raise UserError(f"{path}: incomplete checkpoint ({error})") from error
    if model is not None and checkpoint.model != model:
        raise UserError(f"{path}: holds the model {checkpoint.model}, not {model}; pass --model {checkpoint.model}")
    return checkpoint
