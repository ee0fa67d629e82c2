"""What defines a training run, in plain values: kept in its checkpoint, so that a resumed run is the same run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from cnn.errors import UserError


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run: AdamW, one cycle of the learning rate, the last epoch's model.

    lr: the highest learning rate of the cycle. augment: turned, moved and scaled images. UserError for bad values.
    """

    epochs: int = 20
    batch_size: int = 32
    lr: float = 2e-3
    weight_decay: float = 0.01
    augment: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UserError(f"--{name.replace('_', '-')} must be at least {least}, not {getattr(self, name)}")
        if not 0 < self.lr < math.inf:
            raise UserError(f"--lr must be positive and finite, not {self.lr}")
        if not 0 <= self.weight_decay < math.inf:
            raise UserError(f"--weight-decay must be finite and not negative, not {self.weight_decay}")


@dataclass(frozen=True)
class Settings(Recipe):
    """A recipe, the model it trains and the data it learns from.

    model: a name that `cnn.models.build` knows. pool, activation: LeNet's. data: digits, mnist or a folder. layout:
    how a folder's images become 28x28. limit: only the first so many images of each split.
    """

    model: str = "lenet"
    pool: str = "max"
    activation: str = "relu"
    data: str = "digits"
    layout: str = "digit"
    limit: int | None = None

    @property
    def config(self) -> dict[str, Any]:
        """What `cnn.models.build` needs beside the name and the number of classes."""
        return {"pool": self.pool, "activation": self.activation} if self.model == "lenet" else {}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)
