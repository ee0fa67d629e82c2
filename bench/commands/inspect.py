"""The kernels as machine code, compiled here for cards that are not here."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

NAME = "inspect"
HELP = "compile the kernels for named cards without having them: registers, stack, shared memory, instructions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("kernel", nargs="?", default="", help="part of a kernel's name; default: all")
    parser.add_argument("--arch", nargs="*", default=["sm_90"], help="sm_80 sm_86 sm_89 sm_90 sm_100 sm_120 gfx942")
    parser.add_argument(
        "--dtype", nargs="*", default=["float16", "float32"], help="float16 bfloat16 float32 (TF32) float64 tf32x3"
    )
    parser.add_argument("--case", default="", help="part of a case's name; default: all")
    parser.add_argument(
        "--lenet",
        nargs="*",
        metavar="NETWORK",
        help="instead: predicted times of the fused lenet and lenet_kernelbench, or one of them, on an H100",
    )
    parser.add_argument(
        "--plans",
        nargs="?",
        const=1,
        type=int,
        metavar="N",
        help="instead of the cases: every plan that can ship, on N of the shapes that change its program (default 1)",
    )
    parser.add_argument("--loops", action="store_true", help="instead: main loops on sm_90 beside prototypes' counts")
    parser.add_argument("--part", default="1/1", metavar="I/OF", help="with --plans: only the I-th of OF parts")
    parser.add_argument("--representative", action="store_true", help="one program per kernel, dtype and card")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="also write the rows as JSON lines")
    parser.add_argument(
        "--tables", nargs="?", const="", metavar="DIR", help="write tables, by default the committed ones"
    )
    parser.add_argument("--processes", type=int, default=min(4, os.cpu_count() or 1))


def run(args: argparse.Namespace) -> int:
    """Prints a table; exit code 1 when a kernel does not compile, spills, or exceeds a card's shared memory."""
    from kernels.common.device import INTERPRET

    if INTERPRET:
        print("bench inspect: unset TRITON_INTERPRET, which replaces the compiler", file=sys.stderr)
        return 2
    from bench.machine_code.compile import TARGETS
    from bench.machine_code.jobs import DTYPES, jobs, representative, rows

    if args.loops:
        return _loops()
    if args.plans is not None:
        return _plans(args)
    for name, given, known in (("--arch", args.arch, TARGETS), ("--dtype", args.dtype, DTYPES)):
        unknown = set(given) - set(known)
        if unknown:
            print(f"bench inspect: {name} {sorted(unknown)} is unknown; choose from {sorted(known)}", file=sys.stderr)
            return 2
    if args.lenet is not None:
        return _lenet(args.lenet)
    found: list[dict[str, Any]] = []
    for target in args.arch:  # one card's launches at a time: recorded calls hold their tensors' addresses
        work = jobs([target], args.dtype, args.kernel, args.case)
        if args.representative or args.tables is not None:
            work = representative(work, each_plan=args.tables is not None)
        found += rows(work, args.processes)
    if not found:
        print(f"bench inspect: no kernel matches {args.kernel!r} in case {args.case!r}", file=sys.stderr)
        return 2
    found.sort(key=lambda r: (r["target"], r["kernel"], r["case"], r["dtype"], r["layout"]))
    for row in found:
        print(_line(row))
    _write_json(args, found)
    if args.tables is not None:
        _write_tables(args, found)
    bad = [row for row in found if not row.get("clean")]
    print(f"{len(found)} programs, {len(bad)} not clean")
    return 1 if bad else 0


def _loops() -> int:
    from bench.machine_code.loops import LOOPS, MARGIN, compiled

    bad = 0
    for loop in LOOPS:
        found = compiled(loop)
        bad += not found.is_good
        print(found, flush=True)
    print(
        f"{len(LOOPS)} loops, {bad} with more than {MARGIN}x the instructions, narrow copies or operands in registers"
    )
    return 1 if bad else 0


def _plans(args: argparse.Namespace) -> int:
    """Only what is wrong is printed, as it comes."""
    from bench.machine_code.compile import TARGETS
    from bench.machine_code.jobs import rows
    from bench.machine_code.plans import PRECISIONS, faults, jobs, part, spread
    from cnn.errors import UserError

    for name, given, known in (("--arch", args.arch, TARGETS), ("--dtype", args.dtype, PRECISIONS)):
        if set(given) - set(known):
            wrong = sorted(set(given) - set(known))
            raise UserError(f"{name} {' '.join(wrong)} is unknown; choose from {', '.join(known)}")
    if args.plans < 1:
        raise UserError(f"--plans must be at least 1, got {args.plans}")
    part([], args.part)
    found, bad = [], 0
    for target in args.arch:
        for precision in args.dtype:
            work = [
                j for j in jobs(target, precision) if args.kernel in j.launch.kernel.__name__ and args.case in j.case
            ]
            for row in rows(part(spread(work, args.plans), args.part), args.processes):
                found.append(row)
                wrong = faults(row)
                if wrong:
                    bad += 1
                    print(f"{_line(row)}  {', '.join(wrong)}", flush=True)
    _write_json(args, found)
    print(f"{len(found)} programs, {bad} not clean")
    return 1 if bad else 0


def _lenet(networks: list[str]) -> int:
    from bench.machine_code.lenet import FORMS, tables

    unknown = set(networks) - set(FORMS)
    if unknown:
        print(f"bench inspect: --lenet {sorted(unknown)} is unknown; choose from {sorted(FORMS)}", file=sys.stderr)
        return 2
    for line in tables(networks or FORMS):
        print(line, flush=True)
    return 0


def _write_json(args: argparse.Namespace, found: list[dict[str, Any]]) -> None:
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text("".join(json.dumps(row) + "\n" for row in found))


def _write_tables(args: argparse.Namespace, found: list[dict[str, Any]]) -> None:
    """The clean rows of each card into its files."""
    from bench.machine_code import files
    from kernels.common.roofline import LIMITS

    folder = Path(args.tables) if args.tables else files.FOLDER
    for target in args.arch:
        rows = [row for row in found if row["target"] == target and "error" not in row]
        files.write(folder, target, LIMITS[target].card, rows)
    print(f"tables of {' '.join(args.arch)} in {folder}")


def _line(row: dict[str, Any]) -> str:
    head = f"{row['target']:7} {row['kernel']:26} {row['case']:20} {row['dtype']:9} {row['layout']:13}"
    if "error" in row:
        return f"{head} FAILED {row['error']}"
    loop = " ".join(f"{name}={count}" for name, count in row["loop"].items())
    mark = "" if row["clean"] else "  NOT CLEAN"
    tile = "x".join(str(v) for k, v in row["tile"].items() if k.startswith("BLOCK"))
    return (
        f"{head} {tile:12} w{row['num_warps']} regs {row['registers']:3} stack {row['stack']} "
        f"shared {row['shared']:6} loop: {loop}{mark}"
    )
