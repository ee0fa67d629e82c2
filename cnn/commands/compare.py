"""cnn compare: networks beside each other, over several seeds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnn.errors import UserError
from cnn.options import add_data, add_json, add_runtime, chosen_data, emit, runtime

if TYPE_CHECKING:
    import torch

    from cnn.data import Dataset
    from cnn.learn.settings import Recipe
    from cnn.see.comparison import Group, Result

NAME = "compare"
HELP = "set MLP, LeNet and a global-max-pool CNN beside each other: cost, accuracy, shift, scrambling, augmentation"
EXPERIMENTS = ("models", "shift", "permuted", "augmentation", "overfitting", "bird")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options: which experiments, how thoroughly, where to write."""
    parser.formatter_class = argparse.HelpFormatter
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help=f"of {', '.join(EXPERIMENTS)}; none: all")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the training images (default: 20)")
    parser.add_argument("--batch-size", type=int, default=64, help="images a step (default: 64)")
    parser.add_argument("--lr", type=float, default=2e-3, help="highest learning rate (default: 0.002)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each setting (default: 3)")
    parser.add_argument("--output", default="runs/compare", metavar="DIR", help="(default: runs/compare)")
    add_data(parser)
    add_runtime(parser, device="cpu")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run the experiments; write results.json and a picture each."""
    from cnn.learn.settings import Recipe

    chosen = args.experiments or list(EXPERIMENTS)
    for name in chosen:
        if name not in EXPERIMENTS:
            raise UserError(f"experiment {name!r} is not known; choose from {', '.join(EXPERIMENTS)}")
    if args.seeds < 1:
        raise UserError(f"--seeds must be at least 1, not {args.seeds}")
    recipe = Recipe(args.epochs, args.batch_size, args.lr)
    folder, lines = Path(args.output), []
    result: dict[str, Any] = {"recipe": asdict(recipe), "seeds": args.seeds}
    if set(chosen) - {"bird"}:
        with runtime(args) as device:
            data = chosen_data(args.data, args.limit, download=args.download)
            result["data"] = data.name
            groups = trained(data, recipe, device, args.seeds, set(chosen))
            result["groups"] = [asdict(g) for g in groups]
            lines += [table(groups)] if groups else []
            lines += pictures(groups, data, folder, set(chosen))
            if "overfitting" in chosen:
                lines += overfitting(data, recipe, device, folder, result)
    if "bird" in chosen:
        lines += bird(result)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(result, indent=1))
    emit(args, result, "\n".join([*lines, f"results  {folder / 'results.json'}"]))
    return 0


def settings(chosen: set[str]) -> Iterator[tuple[str, bool, bool]]:
    """(model, augment, permuted) of every run that the experiments need, each once."""
    from cnn.see.comparison import MODELS

    for name in MODELS:
        if chosen & {"models", "shift", "permuted", "augmentation"}:
            yield name, False, False
        if "augmentation" in chosen:
            yield name, True, False
        if "permuted" in chosen and name != "gap":
            yield name, False, True


def trained(data: Dataset, recipe: Recipe, device: torch.device, seeds: int, chosen: set[str]) -> list[Group]:
    """Train everything once, with a progress bar; seeds are interleaved, so that seconds are comparable."""
    from dataclasses import replace

    from tqdm import tqdm

    from cnn.see import comparison

    todo = [(seed, *setting) for seed in range(seeds) for setting in settings(chosen)]
    results: list[Result] = []
    for seed, name, augment, permuted in tqdm(todo, desc="training", unit="run", leave=False, disable=None):
        own = replace(recipe, seed=seed, augment=augment)
        results.append(comparison.run(name, data, own, device, permuted))
    return comparison.group(results) if results else []


def pictures(groups: list[Group], data: Dataset, folder: Path, chosen: set[str]) -> list[str]:
    """One picture for each experiment that has one; a line each."""
    import torch

    from cnn.learn.augment import random_affine, warp
    from cnn.pictures import comparison as draw

    paths = []
    base = [g for g in groups if not g.augment and not g.permuted]
    if "models" in chosen:
        paths.append(draw.draw_models(base, folder / "models.png", data.name))
    if "shift" in chosen:
        paths.append(draw.draw_shift(base, folder / "shift.png"))
    for name, some, words in (
        (
            "permuted",
            [g for g in groups if g.model != "gap" and not g.augment],
            ("pixels in place", "pixels scrambled"),
        ),
        ("augmentation", [g for g in groups if not g.permuted], ("without", "with augmentation")),
    ):
        if name in chosen:
            labels = [f"{draw.NAMES[g.model]}, {words[int(g.permuted or g.augment)]}" for g in some]
            title = f"{some[0].total} test images of {data.name}, {some[0].seeds} seeds: mean, lowest, highest"
            paths.append(draw.draw_pairs(some, folder / f"{name}.png", labels, title))
    if "augmentation" in chosen:
        image = data.test_images[:1]
        maps = random_affine(17, torch.Generator().manual_seed(0))
        variants = warp(image.expand(17, -1, -1, -1), maps)
        paths.append(draw.draw_variants(image[0], variants, folder / "variants.png"))
    return [f"picture  {p}" for p in paths]


def table(groups: list[Group]) -> str:
    """The groups for a terminal, with counts: one image of 360 is 0.28 %."""
    head = "model  pixels     augment  parameters  multiply-adds  seconds  right in % (lowest-highest)   "
    lines = [f"{head}moved by 4: sideways, up/down"]
    for g in groups:
        moved = f"{100 * g.sideways[-1]:16.1f} {100 * g.vertical[-1]:11.1f}" if g.sideways else f"{'-':>16} {'-':>11}"
        lines.append(
            f"{g.model:5}  {'scrambled' if g.permuted else 'in place':9}  {'yes' if g.augment else 'no':7}  "
            f"{g.parameters:10,}  {g.multiply_adds:13,}  {g.seconds:7.1f}  {100 * g.mean:6.2f} "
            f"({100 * g.lowest:.2f}-{100 * g.highest:.2f})      {moved}"
        )
    return "\n".join([*lines, f"{groups[0].total} test images, {groups[0].seeds} seeds"])


def overfitting(data: Dataset, recipe: Recipe, device: torch.device, folder: Path, result: dict[str, Any]) -> list[str]:
    """An MLP with and without dropout, epoch by epoch."""
    from cnn.pictures.comparison import draw_overfitting
    from cnn.see import comparison

    curves = {dropout: comparison.overfit(data, recipe, device, dropout) for dropout in (0.0, 0.2)}
    result["overfitting"] = {str(d): [e.as_dict() for e in epochs] for d, epochs in curves.items()}
    lines = []
    for dropout, epochs in curves.items():
        last = epochs[-1]
        lines.append(
            f"MLP, dropout {dropout:g}: after {last.epoch} epochs loss {last.loss:.4f} in training, "
            f"{last.test_loss:.4f} in test; wrong {last.train_total - last.train_correct} of {last.train_total:,} "
            f"and {last.test_total - last.test_correct} of {last.test_total:,}"
        )
    return [*lines, f"picture  {draw_overfitting(curves, folder / 'overfitting.png')}"]


def bird(result: dict[str, Any]) -> list[str]:
    """Why not connect every pixel to everything: one photo, one layer."""
    from cnn.see.arithmetic import Bird

    it = Bird()
    result["bird"] = {
        "inputs": it.inputs,
        "weights": it.weights,
        "bytes": it.bytes,
        "conv_parameters": it.conv_parameters,
    }
    return [
        f"a photo of {it.width} x {it.height} x {it.channels} is {it.inputs:,} numbers; fully connected to "
        f"{it.hidden:,} units that is {it.weights:.3g} weights, {it.bytes / 1e12:.0f} TB in float32",
        f"(an article says {it.claimed_weights / 1e6:.0f} million: too few by a factor of "
        f"{it.weights / it.claimed_weights:,.0f}); 3 x 3 filters to 64 maps: {it.conv_parameters:,}",
    ]
