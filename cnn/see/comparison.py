"""Experiments that set networks beside each other: accuracy, shift, scrambled pixels, augmentation, overfitting."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from cnn.data import Dataset
from cnn.errors import UserError
from cnn.learn.settings import Recipe
from cnn.learn.training import EpochResult, Trainer, evaluate
from cnn.models import build, parameter_count
from cnn.see.arithmetic import summary
from cnn.see.trace import trace

MODELS = ("mlp", "lenet", "gap")
SHIFTS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Result:
    """One trained model. shifted: share of right answers for each of SHIFTS, mean over four directions."""

    model: str
    seed: int
    augment: bool
    permuted: bool
    parameters: int
    multiply_adds: int
    seconds: float
    correct: int
    total: int
    sideways: tuple[float, ...]
    vertical: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """Right answers on the unmoved test images, 0..1."""
        return self.correct / self.total

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def run(name: str, data: Dataset, recipe: Recipe, device: torch.device, permuted: bool = False) -> Result:
    """Train one model and judge it. permuted: on pixels scrambled by one fixed order, the same for all images."""
    if permuted:
        data = scrambled(data)
    torch.manual_seed(recipe.seed)
    model = build(name, {"classes": len(data.classes)})
    began = time.perf_counter()
    list(Trainer(model, data, recipe, device).run())
    seconds = time.perf_counter() - began
    judged = evaluate(model, data.test_images, data.test_labels, device)
    rows = summary(trace(model, data.test_images[:1].to(device)))
    return Result(
        name,
        recipe.seed,
        recipe.augment,
        permuted,
        parameter_count(model),
        sum(r.multiply_adds for r in rows),
        seconds,
        judged.correct,
        judged.total,
        # Moving scrambled pixels would mean nothing.
        () if permuted else shift_accuracy(model, data.test_images, data.test_labels, device, (0, 1)),
        () if permuted else shift_accuracy(model, data.test_images, data.test_labels, device, (1, 0)),
    )


def shift_accuracy(
    model: nn.Module, images: Tensor, labels: Tensor, device: torch.device, along: tuple[int, int]
) -> tuple[float, ...]:
    """The share of right answers after moving the images by each of SHIFTS, mean of both ways.

    along: (1, 0) for down and up, (0, 1) for right and left.
    """
    shares = []
    for k in SHIFTS:
        moves = {(k * along[0], k * along[1]), (-k * along[0], -k * along[1])}
        right = sum(evaluate(model, shifted(images, *move), labels, device).correct for move in moves)
        shares.append(right / (len(moves) * len(images)))
    return tuple(shares)


def shifted(images: Tensor, down: int, right: int) -> Tensor:
    """Images (N, C, H, W) moved by whole pixels; zeros come in, what leaves is lost."""
    return pad(images, (right, -right, down, -down))


def scrambled(data: Dataset, seed: int = 0) -> Dataset:
    """Every image with its pixels in one fixed random order."""
    size = data.train_images.shape[-2] * data.train_images.shape[-1]
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))

    def scramble(images: Tensor) -> Tensor:
        return images.flatten(2)[..., order].reshape(images.shape)

    return replace(data, train_images=scramble(data.train_images), test_images=scramble(data.test_images))


def overfit(data: Dataset, recipe: Recipe, device: torch.device, dropout: float) -> list[EpochResult]:
    """The epochs of an MLP with that dropout, without augmentation: train and test curves side by side."""
    torch.manual_seed(recipe.seed)
    model = build("mlp", {"dropout": dropout, "classes": len(data.classes)})
    return list(Trainer(model, data, replace(recipe, augment=False), device).run())


@dataclass(frozen=True)
class Group:
    """Several seeds of one setting: mean, lowest and highest accuracy in 0..1, means for each shift."""

    model: str
    augment: bool
    permuted: bool
    parameters: int
    multiply_adds: int
    seconds: float
    mean: float
    lowest: float
    highest: float
    total: int
    seeds: int
    sideways: tuple[float, ...]
    vertical: tuple[float, ...]


def group(results: Sequence[Result]) -> list[Group]:
    """One group for each (model, augment, permuted), in the order they came."""
    if not results:
        raise UserError("compare: nothing was run")
    found: dict[tuple[str, bool, bool], list[Result]] = {}
    for r in results:
        found.setdefault((r.model, r.augment, r.permuted), []).append(r)
    groups = []
    for (model, augment, permuted), runs in found.items():
        shares = [r.accuracy for r in runs]
        seconds = sum(r.seconds for r in runs) / len(runs)
        groups.append(
            Group(
                model,
                augment,
                permuted,
                runs[0].parameters,
                runs[0].multiply_adds,
                seconds,
                sum(shares) / len(shares),
                min(shares),
                max(shares),
                runs[0].total,
                len(runs),
                means([r.sideways for r in runs]),
                means([r.vertical for r in runs]),
            )
        )
    return groups


def means(rows: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """Column means."""
    return tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))
