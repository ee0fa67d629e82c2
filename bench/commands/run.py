"""Measures cases and writes their rows."""

from __future__ import annotations

import argparse
import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

NAME = "run"
HELP = "measure a set of cases: every contender judged, then timed in turns; rows as JSON lines"

AHEAD = 0.25
"""Share of the time in which kernels may be compiled before the first case."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--set", default="auto", help="smoke, headline, cpu, all; auto: headline on CUDA, else cpu")
    parser.add_argument("--cases", nargs="*", default=[], metavar="PATTERN", help="only cases whose name fits")
    parser.add_argument("--providers", nargs="*", default=[], metavar="NAME", help="only these (eager always runs)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--minutes", type=float, default=8.0, help="stop starting new cases after this long")
    parser.add_argument("--seconds", type=float, default=1.0, help="timing of one case by one clock")
    parser.add_argument(
        "--out", type=Path, default=None, help="file of rows; default: bench/results/<device>/rows.jsonl"
    )
    parser.add_argument("--fresh", action="store_true", help="first remove what this command wrote there before")
    parser.add_argument("--resume", action="store_true", help="leave out the cases that the file has at this commit")
    parser.add_argument("--check", action="store_true", help="judge the results, time nothing")
    parser.add_argument("--interpret", action="store_true", help="with --check on a CPU: Triton's interpreter")
    parser.add_argument("--commit", default=None, help="the commit to write where there is no git checkout")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")


def run(args: argparse.Namespace) -> int:
    """The rows of the chosen cases; exit code 1 when a result of ours was wrong, 3 when --resume has more to do."""
    from bench.cases.sets import cases
    from bench.facts import device_of
    from cnn.errors import UserError

    if args.minutes <= 0 or args.seconds <= 0 or args.threads <= 0:
        raise UserError("--minutes, --seconds and --threads must be greater than 0")
    device = device_of(args.device)
    if args.interpret and (device.type == "cuda" or not args.check):
        raise UserError("--interpret runs the Triton kernels on the CPU: to be judged with --check, never timed")
    name = args.set if args.set != "auto" else ("headline" if device.type == "cuda" else "cpu")
    chosen = cases(name, args.cases)
    if args.list:
        print("\n".join(case.name for case in chosen))
        return 0
    if args.interpret:
        # Read when `kernels` is first imported.
        os.environ["TRITON_INTERPRET"] = "1"
    import kernels
    from bench.session import Session

    with kernels.backend("triton") if args.interpret else nullcontext():
        return finish(Session.start(args, device), chosen, args)


def finish(session: Any, chosen: list[Any], args: argparse.Namespace) -> int:
    """Runs the cases until they or the minutes are over; says what was left out."""
    from bench.gpu import BROKEN, MORE

    end = time.monotonic() + args.minutes * 60
    done = session.done() if args.resume else set()
    todo = [case for case in chosen if case.name not in done]
    left = list(todo)
    if todo and session.device.type == "cuda" and not args.check:
        from bench.ahead import compile_ahead

        print(compile_ahead(todo, session.device, args.minutes * 60 * AHEAD), flush=True)
    for case in todo:
        if time.monotonic() >= end:
            break
        session.run(case)
        left.remove(case)
        if session.broken:
            return BROKEN
    before = len(chosen) - len(todo)
    counts = f"{len(todo) - len(left)} cases run, {before} there before, {session.wrong} results of ours wrong"
    print(f"{counts}: {session.path}")
    if left:
        print(f"time is over, {len(left)} cases not run; --resume goes on with {left[0].name}")
    if session.wrong:
        return 1
    # The driver of a card's steps asks with --resume, and wants to know that there is more.
    return MORE if left and args.resume else 0
