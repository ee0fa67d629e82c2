"""Run by the test under torchrun: train, then let every process write the weights it ended with."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import torch

from cnn.data import Dataset, load_digits
from cnn.learn.distributed import joined, leave
from cnn.learn.settings import Recipe
from cnn.learn.training import Trainer
from cnn.models import build


def in_float64(data: Dataset) -> Dataset:
    """The same images in float64. Adam divides a gradient by its size: in float32 the rounding of one near zero, which
    differs with the order of a sum, moves a weight visibly; here only a real difference does."""
    return dataclasses.replace(data, train_images=data.train_images.double(), test_images=data.test_images.double())


def main(model_name: str, folder: Path) -> None:
    torch.set_num_threads(1)
    with joined(torch.device("cpu")) as (world, device):
        # Each process starts from other weights: the first one's count.
        torch.manual_seed(world.rank)
        model = build(model_name, {"dropout": 0.0} if model_name == "mlp" else {}).double()
        # 75 images in batches of 10: the last batch is 5, which two processes divide as 3 and 2.
        data = in_float64(load_digits().limited(75))
        trainer = Trainer(model, data, Recipe(epochs=2, batch_size=10, augment=True), device, world)
        last = list(trainer.run())[-1]
        torch.save({**model.state_dict(), "loss": last.loss, "correct": last.test_correct}, folder / f"{world.rank}.pt")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
    leave(0)
