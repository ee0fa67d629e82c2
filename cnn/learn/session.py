"""One training session: settings and data in, a folder with the trained model out."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cnn.data import Dataset
from cnn.learn.checkpoint import Checkpoint
from cnn.learn.distributed import World
from cnn.learn.record import Record
from cnn.learn.settings import Settings
from cnn.learn.training import EpochResult, Trainer
from cnn.models import build, parameter_count, set_fused


@dataclass(frozen=True)
class Outcome:
    """The last epoch of a session, its model and its files; seconds are those of this session."""

    last: EpochResult
    model: torch.nn.Module
    seconds: float
    folder: Path

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a program."""
        return {
            "test_accuracy": self.last.accuracy,
            "test_correct": self.last.test_correct,
            "test_total": self.last.test_total,
            "train_loss": self.last.loss,
            "test_loss": self.last.test_loss,
            "epochs": self.last.epoch,
            "parameters": parameter_count(self.model),
            "seconds": self.seconds,
            "model": str(self.folder / "model.pt"),
            "curve": str(self.folder / "curve.png"),
            "log": str(self.folder / "log.jsonl"),
        }

    def text(self) -> str:
        """The same for a person."""
        return (
            f"test accuracy {counted(self.last.test_correct, self.last.test_total)}, "
            f"{parameter_count(self.model):,} parameters, {self.seconds:.1f} s\n"
            f"model  {self.folder / 'model.pt'}\ncurve  {self.folder / 'curve.png'}\nlog    {self.folder / 'log.jsonl'}"
        )


def counted(correct: int, total: int) -> str:
    """A share with its counts: 356/360 = 98.89 %."""
    return f"{correct:,}/{total:,} = {100 * correct / total:.2f} %"


def learn(
    data: Dataset,
    settings: Settings,
    folder: Path,
    device: torch.device,
    world: World | None = None,
    start: Checkpoint | None = None,
    shown: bool = True,
    fused: bool = False,
) -> Outcome:
    """Train a new model, or go on from `start`, writing into `folder` after every epoch.

    shown: a progress bar and a line per epoch on stderr. fused: a LeNet runs as one kernel. UserError when data and
    model do not fit each other.
    """
    world = world or World()
    shown = shown and world.leads
    trainer = trainer_for(data, settings, device, world, start, bar=shown)
    set_fused(trainer.model, fused)
    history = start.history if start else []
    record = None
    if world.leads:
        title = f"{settings.model} on {data.name}"
        record = Record(folder, title, list(data.classes), settings.as_dict(), history)
    if shown:
        say(introduction(trainer, settings.model))
    began = time.perf_counter()
    for last in trainer.run():
        if record:
            record.add(trainer, last.as_dict())
        if shown:
            say(epoch_line(last, settings.epochs))
    return Outcome(last, trainer.model, time.perf_counter() - began, folder)


def trainer_for(
    data: Dataset, settings: Settings, device: torch.device, world: World, start: Checkpoint | None, bar: bool
) -> Trainer:
    """A trainer of a new model, its weights drawn from the seed, or of the one in `start`."""
    if start is None:
        torch.manual_seed(settings.seed)
        model = build(settings.model, {**settings.config, "classes": len(data.classes)})
        return Trainer(model, data, settings, device, world, bar)
    start.require_classes(data.classes, data.name)
    trainer = Trainer(start.build(), data, settings, device, world, bar)
    trainer.restore(start.optimizer, len(start.history))
    return trainer


def introduction(trainer: Trainer, name: str) -> str:
    """What is about to happen."""
    data, world = trainer.data, trainer.world
    lines = [
        f"{data.name}: {len(data.train_images):,} training and {len(data.test_images):,} test images, "
        f"{len(data.classes)} classes",
        *data.notes,
        f"{name}: {parameter_count(trainer.model):,} parameters, on {trainer.device}"
        + (f" in {world.size} processes" if world.size > 1 else ""),
    ]
    if trainer.done:
        lines.append(f"going on after epoch {trainer.done}")
    return "\n".join(lines)


def epoch_line(last: EpochResult, epochs: int) -> str:
    """One line for one epoch."""
    return (
        f"epoch {last.epoch:{len(str(epochs))}}/{epochs}  loss {last.loss:.4f}  "
        f"train {100 * last.train_correct / last.train_total:6.2f} %  "
        f"test {counted(last.test_correct, last.test_total)}  {last.images_per_second:,.0f} images/s"
    )


def say(text: str) -> None:
    """To stderr, so that stdout is left to the result."""
    print(text, file=sys.stderr, flush=True)
