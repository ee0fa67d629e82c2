"""What a kernel's first call waits for on the host: Triton's compiler, and its cache on disk."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

NAME = "compile"
HELP = "seconds to compile each kernel for a card that need not be here: with an empty cache, and with a full one"
INTRO = """# First call: what compiling costs

Written by `python -m bench compile --arch {arch}` on {machine}, triton {triton}; processor time of this
process and of the assembler that it starts, which on an idle machine is the time that a call waits.
*cold*: Triton's cache is empty; *warm*: the compiled kernel is on disk, as in any later process. A card adds the
loading of the binary. A call that launches several kernels waits for each; nothing is searched or timed in a call.

"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("kernel", nargs="?", default="", help="part of a kernel's name; default: all")
    parser.add_argument("--arch", default="sm_90", help="sm_80 sm_86 sm_89 sm_90 sm_100 sm_120 gfx942")
    parser.add_argument("--dtype", nargs="*", default=["float16", "float32"])
    parser.add_argument("--out", type=Path, default=None, metavar="FILE", help="also write the table as Markdown")


def run(args: argparse.Namespace) -> int:
    """Prints the table; the cache is a new folder that is removed afterwards."""
    import tempfile

    from bench.machine_code.compile import TARGETS
    from bench.machine_code.jobs import DTYPES, jobs, representative
    from cnn.errors import UserError
    from kernels.common.device import INTERPRET

    if INTERPRET:
        raise UserError("unset TRITON_INTERPRET, which replaces the compiler")
    for name, given, known in (("--arch", [args.arch], TARGETS), ("--dtype", args.dtype, DTYPES)):
        if set(given) - set(known):
            raise UserError(f"{name} {' '.join(given)} is unknown; choose from {', '.join(known)}")
    work = representative(jobs([args.arch], args.dtype, args.kernel))
    if not work:
        raise UserError(f"no kernel's name has {args.kernel!r}")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        rows = sorted((row_of(job) for job in work), key=lambda row: row[0])
    text = table(rows, args.arch)
    print(text, end="")
    if args.out is not None:
        args.out.write_text(text)
    return 0


def row_of(job: Any) -> tuple[str, str, float, float]:
    """(kernel, dtype, cold seconds, warm seconds), without what reads the stack here: a card's driver knows it."""
    from unittest.mock import patch

    from bench.machine_code.compile import compile_launch, tool

    reading, seconds = 0.0, []

    def read(*arguments: Any) -> str:
        nonlocal reading
        start = processor_seconds()
        found = tool(*arguments)
        reading += processor_seconds() - start
        return found

    for _ in range(2):
        start, reading = processor_seconds(), 0.0
        with patch("bench.machine_code.compile.tool", read):
            compile_launch(job.launch, job.target)
        seconds.append(processor_seconds() - start - reading)
    return job.launch.kernel.__name__, job.dtype, seconds[0], seconds[1]


def processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    import resource

    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def table(rows: list[tuple[str, str, float, float]], arch: str) -> str:
    """Markdown: a line a kernel and dtype, and the sums."""
    import triton

    from bench.facts import device_name

    lines = ["| kernel | dtype | cold ms | warm ms |", "|---|---|---|---|"]
    lines += [f"| {kernel} | {dtype} | {cold * 1e3:.0f} | {warm * 1e3:.1f} |" for kernel, dtype, cold, warm in rows]
    sums = [sum(row[i] for row in rows) * 1e3 for i in (2, 3)]  # type: ignore[misc]
    lines.append(f"| all {len(rows)} | | {sums[0]:.0f} | {sums[1]:.1f} |")
    return INTRO.format(arch=arch, machine=device_name("cpu"), triton=triton.__version__) + "\n".join(lines) + "\n"
