"""Seconds to 99 % of MNIST."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

NAME = "speedrun"
HELP = "train LeNet-5 on MNIST to 99 %% of the test images by a fixed recipe: seconds and share of seeds, beside eager"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--data", default="mnist", help="mnist (downloaded or in MNIST_DIR) or the files' directory")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--seeds", type=int, default=10, help="training runs of each contender")
    parser.add_argument("--providers", nargs="*", default=["ours", "eager"], metavar="NAME", help="ours, eager")
    parser.add_argument("--epochs", type=int, default=None, help="instead of the recipe's")
    parser.add_argument(
        "--held-out", type=int, default=0, metavar="N",
        help="be judged by the last N training images, not by the test images: to choose a recipe; writes no rows",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=None, help="file of rows; default: bench/results/<device>/rows.jsonl"
    )
    parser.add_argument("--commit", default=None, help="the commit to write where there is no git checkout")


def run(args: argparse.Namespace) -> int:
    """Trains seed by seed, the contenders in turn; one row a contender."""
    import torch

    from bench import rows
    from bench.facts import device_of, facts, results_folder
    from bench.speedrun import PROVIDERS, Recipe, Result, Summary, held_out
    from bench.speedrun import run as train
    from cnn.data import load_data
    from cnn.errors import UserError

    if min(args.threads, args.seeds, args.epochs or 1) <= 0:
        raise UserError("--threads, --seeds and --epochs must be greater than 0")
    unknown = sorted(set(args.providers) - set(PROVIDERS))
    if unknown or not args.providers:
        raise UserError(f"--providers: choose from {', '.join(PROVIDERS)}, not {', '.join(unknown) or 'nothing'}")
    device = device_of(args.device)
    torch.set_num_threads(args.threads)
    data = load_data(args.data)
    if args.held_out:
        data = held_out(data, args.held_out)
    recipe = Recipe() if args.epochs is None else Recipe(epochs=args.epochs)
    results: dict[str, list[Result]] = {name: [] for name in args.providers}
    for seed in range(args.seeds):
        for name in args.providers:
            result = train(name, seed, recipe, data, device)
            results[name].append(result)
            print(f"seed {seed}  {name:6}{result.seconds:8.2f} s  {result.correct} of {result.total}", flush=True)
    about = {**facts(device, args.commit), "threads": args.threads}
    path = args.out or results_folder(device) / "rows.jsonl"
    for name, found in results.items():
        summary = Summary(name, tuple(found))
        print(f"{name}: median {summary.seconds:.2f} s of training, 99 % reached by {summary.reached} of {len(found)}")
        if not args.held_out:
            rows.append(path, {**_row(name, summary, found), "recipe": vars(recipe), **about})
    return 0


def _row(name: str, summary: Any, found: list[Any]) -> dict[str, Any]:
    return {
        "case": "speedrun.mnist",
        "provider": name,
        "unit": "s",
        "value": summary.seconds,
        "spread": (max(r.seconds for r in found) - min(r.seconds for r in found)) / (2 * summary.seconds),
        "reached": summary.reached,
        "seeds": len(found),
        "correct": [r.correct for r in found],
    }
