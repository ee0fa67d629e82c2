"""Which classes a model takes for which: the confusion matrix and its worst pairs."""

from __future__ import annotations

import torch
from torch import Tensor


def confusion_matrix(labels: Tensor, predictions: Tensor, classes: int) -> Tensor:
    """Counts (classes, classes) in int64: row = true class, column = predicted class."""
    return torch.bincount(labels * classes + predictions, minlength=classes * classes).reshape(classes, classes)


def most_confused(matrix: Tensor, count: int = 3) -> list[tuple[int, int, int]]:
    """The most frequent mistakes as (true class, predicted class, how often), the most frequent first."""
    wrong = matrix.clone().fill_diagonal_(0).flatten()
    top = torch.argsort(wrong, descending=True, stable=True)[:count].tolist()
    return [(i // len(matrix), i % len(matrix), int(wrong[i])) for i in top if wrong[i] > 0]
