"""The host's cost of a call."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

NAME = "host"
HELP = "microseconds of host work from a public function to its launch, with a launcher that starts nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--calls", type=int, default=2000, help="calls of one sample")
    parser.add_argument("--samples", type=int, default=15, help="samples; the median is the value")
    parser.add_argument("--case", default="", help="part of a case's name; default: all")
    parser.add_argument(
        "--out", type=Path, default=None, help="file of rows; default: bench/results/<processor>/rows.jsonl"
    )
    parser.add_argument("--commit", default=None, help="the commit to write where there is no git checkout")


def run(args: argparse.Namespace) -> int:
    """Writes and prints the rows."""
    from cnn.errors import UserError
    from kernels.backend import HAS_TRITON
    from kernels.common.device import INTERPRET

    if args.calls <= 0 or args.samples <= 0:
        raise UserError("--calls and --samples must be greater than 0")
    if INTERPRET:
        print("bench host: unset TRITON_INTERPRET, which replaces the compiler", file=sys.stderr)
        return 2
    if not HAS_TRITON:
        print("bench host: triton is not installed", file=sys.stderr)
        return 2
    from bench import rows
    from bench.facts import device_of, facts, results_folder
    from bench.host import cases, host_rows

    if not any(args.case in case.name for case in cases()):
        raise UserError(f"--case {args.case!r} is part of no case's name: {[case.name for case in cases()]}")
    device = device_of("cpu")
    path = args.out or results_folder(device) / "rows.jsonl"
    about = {**facts(device, args.commit), "threads": 1}
    print("microseconds a call: median, lowest; kernels started (by a launcher that does nothing)")
    for row in host_rows(args.calls, args.samples, args.case):
        rows.append(path, {**row, **about})
        goal = f"  goal {row['goal']:.0f}" if "goal" in row else ""
        launches = f"{row['launches']}" if "launches" in row else "-"
        name = row["case"].removeprefix("launch/")
        print(f"{name:42} {row['provider']:25} {row['value']:8.2f} {row['low']:8.2f} {launches:>3}{goal}")
    return 0
