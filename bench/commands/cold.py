"""Cold start and memory."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "cold"
HELP = "cold start (import, first call, first training step) and peak memory, from fresh processes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--processes", type=int, default=5, help="fresh processes a provider")
    parser.add_argument(
        "--out", type=Path, default=None, help="file of rows; default: bench/results/<device>/rows.jsonl"
    )
    parser.add_argument("--commit", default=None, help="the commit to write where there is no git checkout")


def run(args: argparse.Namespace) -> int:
    """Writes and prints the rows."""
    from bench import rows
    from bench.cold import cold_rows
    from bench.facts import device_of, facts, results_folder
    from cnn.errors import UserError

    if args.threads <= 0 or args.processes <= 0:
        raise UserError("--threads and --processes must be greater than 0")
    device = device_of(args.device)
    path = args.out or results_folder(device) / "rows.jsonl"
    about = {**facts(device, args.commit), "threads": args.threads}
    for row in cold_rows(device.type, args.threads, args.processes):
        rows.append(path, {**row, **about})
        print(f"{row['case']:28} {row['provider']:6} {row['value']:10.2f} {row['unit']} ±{100 * row['spread']:.0f}%")
    return 0
