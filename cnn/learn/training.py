"""Training and judging a classifier on a data set that lies whole in memory."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnn.data.dataset import Dataset
from cnn.errors import UserError
from cnn.learn.augment import random_affine, warp
from cnn.learn.distributed import World
from cnn.learn.settings import Recipe


@dataclass(frozen=True)
class EpochResult:
    """What one epoch did: mean losses, counts of right answers, and speed in images a second (training only)."""

    epoch: int
    loss: float
    train_correct: int
    train_total: int
    test_loss: float
    test_correct: int
    test_total: int
    lr: float
    seconds: float
    images_per_second: float

    @property
    def accuracy(self) -> float:
        """The share of right answers on the test images, 0 to 1."""
        return self.test_correct / self.test_total

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for a log or a checkpoint."""
        return asdict(self)


class Trainer:
    """One training run of `model` on `data`. `run` yields after each epoch; `restore` continues an earlier one.

    Epoch n draws its order, its variants and its dropout from (seed, n) alone, so that a run that was interrupted and
    restored ends with the same bits on the same device. With several processes in `world`, a batch is divided
    between them and the gradient is that of the whole batch.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Dataset,
        recipe: Recipe,
        device: torch.device,
        world: World | None = None,
        bar: bool = False,
    ) -> None:
        self.model, self.data, self.recipe = model.to(device), data, recipe
        self.device, self.world, self.bar = device, world or World(), bar
        self.images, self.labels = data.train_images.to(device), data.train_labels.to(device)
        self.parallel = self.world.wrap(self.model, device)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        self.steps = math.ceil(len(self.images) / recipe.batch_size)
        self.done = 0

    def restore(self, optimizer: dict[str, Any], epochs_done: int) -> None:
        """Go on after that epoch; the model already has that epoch's weights. UserError for a finished run."""
        if epochs_done >= self.recipe.epochs:
            raise UserError(f"nothing left to resume: all {self.recipe.epochs} epochs are done")
        self.optimizer.load_state_dict(optimizer)
        self.done = epochs_done

    def run(self) -> Iterator[EpochResult]:
        """Train epoch by epoch. UserError when the loss is no longer a finite number."""
        # last_epoch counts steps; the constructor itself makes one.
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=self.recipe.lr,
            total_steps=self.recipe.epochs * self.steps,
            last_epoch=self.done * self.steps - 1,
        )
        for epoch in range(self.done + 1, self.recipe.epochs + 1):
            start = time.perf_counter()
            loss, correct = self.epoch(epoch, schedule)
            seconds = time.perf_counter() - start
            test = evaluate(self.model, self.data.test_images, self.data.test_labels, self.device, self.world)
            self.done = epoch
            total = len(self.images)
            lr = float(schedule.get_last_lr()[0])
            yield EpochResult(
                epoch, loss, correct, total, test.loss, test.correct, test.total, lr, seconds, total / seconds
            )

    def epoch(self, epoch: int, schedule: torch.optim.lr_scheduler.LRScheduler) -> tuple[float, int]:
        """One pass over the training images: mean loss and count of right answers."""
        count, recipe = len(self.images), self.recipe
        draw = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
        order = torch.randperm(count, generator=draw).to(self.device)
        maps = random_affine(count, draw).to(self.device) if recipe.augment else None
        torch.manual_seed((recipe.seed * 1_000_003 + epoch) * 1_009 + self.world.rank)
        totals = torch.zeros(2, device=self.device)
        self.parallel.train()
        with Progress(f"epoch {epoch}/{recipe.epochs}", count, self.bar, recipe.lr) as progress:
            for begin in range(0, count, recipe.batch_size):
                end = min(begin + recipe.batch_size, count)
                chosen = self.world.share(order[begin:end])
                variant = None if maps is None else self.world.share(maps[begin:end])
                totals += self.step(chosen, variant, end - begin)
                # OneCycleLR refuses a step beyond the last, which the loop does not make use of either.
                if schedule.last_epoch < schedule.total_steps - 1:  # type: ignore[attr-defined]
                    schedule.step()
                progress.advance(end, totals, self.world)
        loss, correct = (self.world.sum(totals)).tolist()
        check_finite(loss, f"epoch {epoch}", recipe.lr)
        return loss / count, round(correct)

    def step(self, chosen: Tensor, maps: Tensor | None, batch: int) -> Tensor:
        """One step on this process's part of a batch: its summed loss and count of right answers."""
        images, labels = self.images[chosen], self.labels[chosen]
        if maps is not None:
            images = warp(images, maps)
        scores = self.parallel(images)
        loss = F.cross_entropy(scores, labels, reduction="sum")
        self.optimizer.zero_grad()
        # Processes average their gradients: the factor makes that the mean over the whole batch, also for uneven parts.
        torch.autograd.backward(loss * (self.world.size / batch))
        self.optimizer.step()
        return torch.stack([loss.detach(), (scores.detach().argmax(1) == labels).sum()])


def check_finite(loss: float, where: str, lr: float) -> None:
    """UserError when the loss is NaN or infinite."""
    if not math.isfinite(loss):
        raise UserError(f"the loss became {loss} in {where}, which is not saved; try a lower --lr than {lr:g}")


class Progress:
    """A progress bar over one epoch with loss, accuracy and images a second; looks at the numbers ten times a second.

    Reading a number waits for the device, so that it is not done every step.
    """

    def __init__(self, title: str, count: int, shown: bool, lr: float) -> None:
        from tqdm import tqdm

        self.title, self.lr = title, lr
        # A log file should not fill with bars.
        pause = {} if sys.stderr.isatty() else {"mininterval": 10, "delay": 2}
        self.line = tqdm(
            desc=title, total=count, unit=" images", unit_scale=True, leave=False, disable=not shown, **pause
        )
        self.seen, self.looked = 0, time.perf_counter()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.line.close()

    def advance(self, seen: int, totals: Tensor, world: World) -> None:
        """`seen` images are done with these summed losses and right answers of this process."""
        now = time.perf_counter()
        if now - self.looked < 0.1:
            return
        loss, correct = totals.tolist()
        share = seen / world.size
        check_finite(loss, self.title, self.lr)
        self.line.set_postfix_str(f"loss {loss / share:.4f}, accuracy {100 * correct / share:.1f} %", refresh=False)
        self.line.update(seen - self.seen)
        self.seen, self.looked = seen, now


@dataclass(frozen=True)
class Evaluation:
    """Mean loss and right answers on labelled images; scores (this process's part, classes) on the CPU."""

    loss: float
    correct: int
    total: int
    scores: Tensor


def evaluate(
    model: nn.Module, images: Tensor, labels: Tensor, device: torch.device, world: World | None = None
) -> Evaluation:
    """Judge the model, in evaluation mode, on images (N, 1, 28, 28) and labels (N,)."""
    world = world or World()
    part = predict(model, world.share(images), device)
    right = world.share(labels)
    loss = F.cross_entropy(part, right, reduction="sum")
    sums = torch.stack([loss, (part.argmax(1) == right).sum()]).to(device)
    total_loss, correct = world.sum(sums).tolist()
    return Evaluation(total_loss / len(images), round(correct), len(images), part)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, device: torch.device, batch_size: int = 500) -> Tensor:
    """Scores (N, classes) in float32 on the CPU, in evaluation mode; the model is left in the mode it was in."""
    training = model.training
    model.to(device).eval()
    scores = [model(batch.to(device)).float().cpu() for batch in torch.split(images, batch_size)]
    model.train(training)
    return torch.cat(scores)
