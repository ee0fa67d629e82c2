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
    """Writes and prints the table; exit code 1 where this package's error is more than 1.5 times torch's."""
    from bench import facts
    from kernels.common.device import INTERPRET

    device = facts.device_of(args.device)
    if device.type == "cpu" and not INTERPRET:  # Triton reads the variable when it is imported
        command = [sys.executable, "-m", "bench", "accuracy", "--device", "cpu"]
        command += ["--out", str(args.out)] if args.out else []
        return subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, check=False).returncode
    from bench.accuracy import SIZES, measure, table, worse

    rows = list(measure(device))
    where = facts.device_name(device.type) + (" (Triton's interpreter)" if device.type == "cpu" else "")
    versions = ", ".join(f"{name} {facts.versions()[name]}" for name in ("torch", "triton"))
    text = table(rows, where, versions, SIZES[device.type])
    path = args.out or facts.ROOT / "bench" / "figures" / f"{facts.slug(facts.device_name(device.type))}-accuracy.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(text)
    for row in worse(rows):
        print(f"{row.precision} {row.which}: {row.ours:.2e} is too much beside torch's {row.torchs:.2e}")
    return 1 if worse(rows) else 0
