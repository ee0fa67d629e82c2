"""A whole data set in memory: images and labels to learn from, images and labels to be judged by."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cnn.errors import UserError

SIZE = 28


@dataclass(frozen=True)
class Dataset:
    """Images (N, 1, 28, 28) in float32, 0 black to 1 white; labels (N,) in int64, an index into `classes`.

    notes: what was done to the images that a person should know, in words.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for split, images, labels in (
            ("train", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        ):
            if len(images) != len(labels):
                raise UserError(f"{self.name}: {len(images)} {split} images, but {len(labels)} labels")
            if len(images) == 0:
                raise UserError(f"{self.name}: no {split} images")

    def limited(self, count: int | None) -> Dataset:
        """The first `count` images of each split; everything for None."""
        if count is None:
            return self
        if count < 1:
            raise UserError(f"--limit must be at least 1, not {count}")
        return replace(
            self,
            train_images=self.train_images[:count],
            train_labels=self.train_labels[:count],
            test_images=self.test_images[:count],
            test_labels=self.test_labels[:count],
        )


def stratified_split(labels: Tensor, test_share: float = 0.2) -> tuple[Tensor, Tensor]:
    """Indices (train, test) with the same share of every class in both, the same on every run.

    UserError when a class has fewer than two images, or there are fewer test images than classes.
    """
    from sklearn.model_selection import train_test_split

    try:
        train, test = train_test_split(
            torch.arange(len(labels)).numpy(), test_size=test_share, stratify=labels.numpy(), random_state=0
        )
    except ValueError as error:
        raise UserError(f"cannot split {len(labels)} images into train and test: {error}") from error
    return torch.from_numpy(train), torch.from_numpy(test)
