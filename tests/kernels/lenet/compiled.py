"""Compiles the LeNet kernels for a card that need not be there: python compiled.py TARGET ARITHMETIC:IMAGES:STYLE ...

IMAGES names a plan by its images at a time, STYLE pool and activation (avg-tanh). Prints a row of JSON for each kernel.
Needs a process without TRITON_INTERPRET.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from bench.machine_code.compile import CARDS, compile_launch
from bench.machine_code.lenet import launches
from bench.machine_code.read import read
from kernels.common.launch import Launch

REGISTERS = 65_536


def row(launch: Launch, target: str) -> dict[str, Any]:
    """What a program of the launch costs."""
    report = read(compile_launch(launch, target))
    by_registers = REGISTERS // (32 * report.num_warps * report.registers)
    # A multiprocessor has as much shared memory as a program may have, and a kilobyte more a program.
    resident = min(by_registers, CARDS[target].shared // (report.shared + 1024))
    name = launch.kernel.__name__ + ("_keep" if launch.arguments.get("KEEP") else "")
    return {"kernel": name, "resident": resident, **report.as_dict()}


if __name__ == "__main__":
    for choice in sys.argv[2:]:
        arithmetic, images, style = choice.split(":")
        for launch in launches(arithmetic, int(images), style=style):
            about = {"target": sys.argv[1], "arithmetic": arithmetic, "images": int(images), "style": style}
            print(json.dumps({**about, **row(launch, sys.argv[1])}), flush=True)
