"""This checkout against another commit."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

NAME = "compare"
HELP = "time this checkout and the commit BASE in turns, and flag what changed beyond the spread"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("base", metavar="BASE", help="a commit, branch or tag")
    parser.add_argument("--set", default="auto", help="smoke, headline, cpu, all; auto: headline on CUDA, else cpu")
    parser.add_argument("--cases", nargs="*", default=[], metavar="PATTERN", help="only cases whose name fits")
    parser.add_argument("--layouts", nargs="*", default=["nchw"], choices=["nchw", "nhwc"], help="memory formats")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--rounds", type=int, default=15, help="pairs of samples a pair of processes")
    parser.add_argument("--processes", type=int, default=2, help="pairs of fresh processes")


def run(args: argparse.Namespace) -> int:
    """Prints a line a case; exit code 1 when one became slower or does not run any more."""
    from bench import versus
    from bench.cases.sets import cases
    from bench.facts import ROOT, device_of
    from cnn.errors import UserError

    if args.rounds <= 0 or args.processes <= 0 or args.threads <= 0:
        raise UserError("--rounds, --processes and --threads must be greater than 0")
    device = device_of(args.device)
    chosen = cases(args.set if args.set != "auto" else ("headline" if device.type == "cuda" else "cpu"), args.cases)
    worse = 0
    with tempfile.TemporaryDirectory() as name, versus.checkout(args.base, ROOT, Path(name)) as tree:
        bench = Path(__file__).resolve().parent.parent
        old = versus.root_of(tree, bench, Path(name) / "old")
        new = versus.root_of(ROOT, bench, Path(name) / "new")
        found = versus.compare(old, new, chosen, args.layouts, device.type, args.threads, args.rounds, args.processes)
        for label, change in found:
            if isinstance(change, str):
                worse += not change.startswith("base:")
                print(f"  NO TIME  {label}: {change}")
                continue
            worse += change.verdict == "larger"
            mark = {"same": "", "larger": "SLOWER", "smaller": "faster"}[change.verdict]
            interval = f"{change.low:.3f} to {change.high:.3f}, {change.pairs} pairs"
            print(f"  {mark:8} {label}: new time / old time {change.ratio:.3f} ({interval})")
    print(f"{worse} of {len(chosen) * len(args.layouts)} worse than {args.base}")
    return 1 if worse else 0
