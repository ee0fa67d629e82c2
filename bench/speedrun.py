"""Seconds to 99 %: LeNet-5 trained on MNIST by a recipe fixed beforehand, on these kernels and on eager PyTorch.

The recipe never looks at the test images: it was chosen on the last 10,000 training images by models that learned from
the 50,000 before them (`--held-out 10000`), its epochs are decided before, and the test images are read once, after
training. Both contenders get the same seeds: the same first weights, order of images and shifts, and the same
optimizer; only the network's forward and backward differ. Data on the device and the first (compiling) call are
outside the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnn.data.dataset import Dataset
from cnn.errors import UserError
from kernels.lenet.op import lenet

GOAL = 9900
"""Right answers on the 10,000 test images."""
Network = Callable[[Tensor, list[nn.Parameter]], Tensor]


@dataclass(frozen=True)
class Recipe:
    """AdamW on shifted images; the rate climbs over `warm` of the steps, then falls to zero, both in straight lines."""

    epochs: int = 4
    batch: int = 256
    lr: float = 0.014
    weight_decay: float = 0.01
    warm: float = 0.15
    shift: int = 1

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step."""
        done = step / steps
        return self.lr * (done / self.warm if done < self.warm else (1 - done) / (1 - self.warm))


@dataclass(frozen=True)
class Result:
    """One training run: seconds of training, right answers on the test images."""

    seed: int
    seconds: float
    correct: int
    total: int


@dataclass(frozen=True)
class Summary:
    """All runs of one contender."""

    provider: str
    results: tuple[Result, ...]

    @property
    def seconds(self) -> float:
        """The median training time."""
        return median(r.seconds for r in self.results)

    @property
    def reached(self) -> int:
        """How many seeds read the goal's share of the test images."""
        return sum(r.correct * 10000 >= GOAL * r.total for r in self.results)


def ours(x: Tensor, p: list[nn.Parameter]) -> Tensor:
    """The network as one call of this package."""
    return lenet(x, p)


def eager(x: Tensor, p: list[nn.Parameter]) -> Tensor:
    """The same network on torch's operators."""
    y = F.max_pool2d(F.relu(F.conv2d(x, p[0], p[1], padding=2)), 2)
    y = F.max_pool2d(F.relu(F.conv2d(y, p[2], p[3])), 2).flatten(1)
    return F.linear(F.relu(F.linear(F.relu(F.linear(y, p[4], p[5])), p[6], p[7])), p[8], p[9])


PROVIDERS: dict[str, Network] = {"ours": ours, "eager": eager}


def first_weights(device: torch.device) -> list[nn.Parameter]:
    """LeNet-5's ten parameters as torch's layers begin, drawn from the current seed."""
    layers = [nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5), nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)]
    return [nn.Parameter(p.detach().to(device)) for layer in layers for p in layer.parameters()]


def windows(images: Tensor, shift: int) -> Tensor:
    """[n, 1, h, w] -> [n, 2 * shift + 1, 2 * shift + 1, h, w]: every shift of every image, as one view."""
    h, w = images.shape[2:]
    return F.pad(images[:, 0], (shift,) * 4).unfold(1, h, 1).unfold(2, w, 1)


def train(network: Network, recipe: Recipe, views: Tensor, labels: Tensor, p: list[nn.Parameter]) -> None:
    """The recipe, whole."""
    optimizer = torch.optim.AdamW(p, lr=recipe.lr, betas=(0.9, 0.99), weight_decay=recipe.weight_decay, fused=True)
    per_epoch, step = len(labels) // recipe.batch, 0
    for _ in range(recipe.epochs):
        order = torch.randperm(len(labels), device=labels.device)
        for chosen in torch.split(order[: per_epoch * recipe.batch], recipe.batch):
            down, across = torch.randint(0, views.shape[1], (2, recipe.batch), device=labels.device)
            optimizer.param_groups[0]["lr"] = recipe.rate(step, per_epoch * recipe.epochs)
            loss = F.cross_entropy(network(views[chosen, down, across][:, None], p), labels[chosen])
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            step += 1


def held_out(data: Dataset, count: int) -> Dataset:
    """The last `count` training images in place of the test images: what a recipe may be chosen on.

    UserError unless some images are left to learn from.
    """
    if not 0 < count < len(data.train_labels):
        raise UserError(f"--held-out must be from 1 to {len(data.train_labels) - 1} training images, not {count}")
    images, labels = data.train_images, data.train_labels
    return replace(
        data,
        train_images=images[:-count],
        train_labels=labels[:-count],
        test_images=images[-count:],
        test_labels=labels[-count:],
    )


def run(provider: str, seed: int, recipe: Recipe, data: Dataset, device: torch.device) -> Result:
    """Train once from this seed and read the test images once."""
    network = PROVIDERS[provider]
    views = windows(data.train_images.to(device), recipe.shift)
    labels, test = data.train_labels.to(device), data.test_images.to(device)
    torch.manual_seed(seed)
    p = first_weights(device)
    spare = first_weights(device)
    loss = F.cross_entropy(network(views[: recipe.batch, 0, 0][:, None], spare), labels[: recipe.batch])
    torch.autograd.backward(loss)
    _wait(device)
    torch.manual_seed(seed)
    start = time.perf_counter()
    train(network, recipe, views, labels, p)
    _wait(device)
    seconds = time.perf_counter() - start
    with torch.inference_mode():
        correct = int((network(test, p).argmax(1) == data.test_labels.to(device)).sum())
    return Result(seed, seconds, correct, len(test))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
