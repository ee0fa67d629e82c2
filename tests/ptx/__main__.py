"""python -m tests.ptx: every plan of a card, its PTX run here, beside torch."""

from __future__ import annotations

import argparse
import os
import sys

os.environ["TRITON_INTERPRET"] = "0"  # the interpreter replaces the compiler

import torch

from bench.machine_code.compile import CARDS
from bench.machine_code.plans import PRECISIONS, part
from cnn.errors import UserError
from tests.ptx.launch import Card
from tests.ptx.plans import jobs, run

TARGETS = [target for target in CARDS if target not in ("sm_100", "gfx942")]


def main() -> int:
    """Prints what is wrong and how much was run; 1 where anything is."""
    parser = argparse.ArgumentParser(prog="python -m tests.ptx", description=__doc__)
    parser.add_argument("--arch", nargs="*", default=["sm_90"], choices=TARGETS)
    parser.add_argument("--dtype", nargs="*", default=["float16", "float32"], choices=list(PRECISIONS))
    parser.add_argument("--each", type=int, default=1, metavar="N", help="shapes and layouts of every plan (default 1)")
    parser.add_argument("--only", default="", help="part of a job's line, such as 'wgrad' or 'batch 128x256'")
    parser.add_argument("--part", default="1/1", metavar="I/OF", help="only the I-th of OF parts")
    parser.add_argument("--races", action="store_true", help="also look for races between warps (5 times as long)")
    args = parser.parse_args()
    if args.each < 1:
        parser.error(f"--each must be at least 1, got {args.each}")
    try:
        part([], args.part)
    except UserError as error:
        parser.error(str(error))
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # new memory is NaN
    bad = 0
    for target in args.arch:
        for precision in args.dtype:
            card, failures = Card(target, args.races), 0
            work = [job for job in jobs(target, precision, args.each) if args.only in str(job)]
            work = part(work, args.part)
            for line in run(card, precision, work):
                print(line, flush=True)
                failures += 1
            launches = sum(card.ran.values())
            print(f"{target} {precision}: {len(work)} jobs, {failures} wrong, "
                  f"{launches} launches of {len(card.compiled)} programs", flush=True)  # fmt: skip
            bad += failures
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
