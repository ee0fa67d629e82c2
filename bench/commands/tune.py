"""The fastest plan of every bucket, measured on this machine's card; without a card, predicted and only printed."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

NAME = "tune"
HELP = "on a CUDA machine: measure plans and torch, write kernels/tuned/<card>.json; --dry-run: predict without a card"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--set", default="headline", help="smoke, doubtful, headline or all: which layers")
    parser.add_argument("--pass", nargs="*", default=None, dest="passes", metavar="PASS", help="fprop, dgrad, ...")
    parser.add_argument("--dtype", nargs="*", default=["fp16", "tf32", "fp32"], help="fp16 bf16 tf32 fp32")
    parser.add_argument("--batch", nargs="*", type=int, default=[256, 32], help="images")
    parser.add_argument("--limit", type=float, default=480.0, help="seconds after which no further bucket is started")
    parser.add_argument("--compile", type=int, default=12, help="plans of a bucket that are compiled")
    parser.add_argument("--measure", type=int, default=6, help="plans of a bucket that are timed")
    parser.add_argument("--out", type=Path, default=None, help="folder of tables; default: kernels/tuned")
    parser.add_argument("--commit", default=None, help="the commit to write where there is no git checkout")
    parser.add_argument("--dry-run", action="store_true", help="no card: compile, rank by the model, print")
    parser.add_argument("--arch", default="sm_90", help="the card that --dry-run ranks for")
    parser.add_argument("--processes", type=int, default=min(8, os.cpu_count() or 1))


def run(args: argparse.Namespace) -> int:
    """Exit code 3 when time was over before the last bucket; 2 without CUDA unless --dry-run."""
    import torch

    from bench.tune import PASSES, targets
    from cnn.errors import UserError
    from kernels.common.device import INTERPRET

    if min(args.limit, args.compile, args.measure, args.processes) <= 0:
        raise UserError("--limit, --compile, --measure and --processes must be greater than 0")
    chosen = targets(args.set, PASSES if args.passes is None else args.passes, args.dtype, args.batch)
    if INTERPRET:
        raise UserError("unset TRITON_INTERPRET, which replaces the compiler")
    if args.dry_run:
        return _predict(chosen, args)
    if not torch.cuda.is_available():
        raise UserError("torch finds no CUDA device; --dry-run ranks by the model and writes nothing")
    return _measure(chosen, args)


def _predict(chosen: list[Any], args: argparse.Namespace) -> int:
    """Prints the ranking of each bucket until the time is over."""
    import time

    from bench.machine_code.compile import CARDS
    from bench.tune.rank import promising, shortlist
    from cnn.errors import UserError
    from kernels.common.roofline import LIMITS

    if args.arch not in CARDS:
        raise UserError(f"--arch {args.arch} is unknown; choose from {', '.join(CARDS)}")
    card, limits, end = CARDS[args.arch], LIMITS[args.arch], time.monotonic() + args.limit
    print(f"predicted for {limits.card}; nothing is measured and nothing written")
    for target in (target for target in chosen if not target.is_pool):
        if time.monotonic() >= end:
            print("time is over")
            break
        found = promising(target, card, limits, args.arch, args.compile, args.processes)
        compiled = f"{len(found.clean)} of {len(found.first)} compiled clean"
        print(f"{target.bucket.key} ({target.name}): {len(found.every)} plans, {compiled}")
        for each in shortlist(found.clean, args.measure):
            print(f"  {each}")
    return 0


def _measure(chosen: list[Any], args: argparse.Namespace) -> int:
    import torch

    from bench.clock import EventClock
    from bench.facts import facts
    from bench.gpu import MORE
    from bench.tune.card import CardMeasurer
    from bench.tune.drive import Tuner
    from bench.tune.rank import promising, shortlist
    from kernels.common.device import card_of
    from kernels.common.roofline import LIMITS, limits_of
    from kernels.tuned import table

    device = torch.device("cuda")
    card = card_of(device)
    major, minor = torch.cuda.get_device_capability(device)
    arch = f"sm_{major}{minor}"
    limits = limits_of(card.name) or LIMITS.get(arch, LIMITS["sm_90"])

    def chosen_plans(target: Any) -> list[Any]:
        if target.is_pool:
            return []
        found = promising(target, card, limits, arch, args.compile, args.processes)
        if not found.clean:
            print(f"{target.name}: none of {len(found.first)} plans compiled clean; timed as ranked")
        return [each.plan for each in shortlist(found.clean or found.first, args.measure)]

    about = {name: value for name, value in facts(device, args.commit).items() if name not in ("threads", "kind")}
    measurer = CardMeasurer(device, EventClock(device))
    tuner = Tuner(args.out or table.FOLDER, card.name, about, chosen_plans, measurer)
    tuner.load()
    # What is measured must not depend on a table that is there already.
    with table.tables_in(Path(os.devnull)):
        left = tuner.run(chosen, args.limit)
    print(f"{len(chosen) - len(left)} of {len(chosen)} buckets measured: {tuner.path}")
    return MORE if left else 0
