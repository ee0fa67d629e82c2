"""Errors of the convolutions against float64, per dtype and pass, beside torch's."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

NAME = "accuracy"
HELP = "errors against float64 per dtype and pass, this package's and torch's; without a card in Triton's interpreter"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--out", type=Path, default=None, help="markdown file; default: bench/figures/<device>-accuracy.md"
    )


def run(args: argparse.Namespace) -> int:
    """Writes and prints the tables; exit code 1 where this package's error is more than 1.5 times torch's, or that of
    three TF32 products more than that of float32's."""
    from bench import facts, long_sums
    from kernels.common.device import INTERPRET

    device = facts.device_of(args.device)
    if device.type == "cpu" and not INTERPRET:  # Triton reads the variable when it is imported
        command = [sys.executable, "-m", "bench", "accuracy", "--device", "cpu"]
        command += ["--out", str(args.out)] if args.out else []
        return subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, check=False).returncode
    from bench.accuracy import SIZES, measure, measure_sums, table, worse

    rows = list(measure(device))
    where = facts.device_name(device.type) + (" (Triton's interpreter)" if device.type == "cpu" else "")
    versions = ", ".join(f"{name} {facts.versions()[name]}" for name in ("torch", "triton"))
    sums = list(long_sums.simulate() if device.type == "cpu" else measure_sums(device))
    text = table(rows, where, versions, SIZES[device.type]) + long_sums.table(sums, device.type == "cpu")
    path = args.out or facts.ROOT / "bench" / "figures" / f"{facts.slug(facts.device_name(device.type))}-accuracy.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(text)
    for row in worse(rows):
        print(f"{row.precision} {row.which}: {row.ours:.2e} is too much beside torch's {row.torchs:.2e}")
    long = [row for row in sums if row.is_worse]
    for each in long:
        print(f"{each.length} products, {each.operands}: three TF32 products are less accurate than float32's")
    return 1 if worse(rows) or long else 0
