"""Everything that a card is asked, in one bounded call."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "gpu"
HELP = (
    "on a CUDA machine: correctness, benchmarks, tuning; bounded in time, a second call goes on where this one stopped"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--minutes", type=float, default=9.0, help="end after this long")
    parser.add_argument("--out", type=Path, default=None, help="folder of results; default: bench/results/<card>")
    parser.add_argument("--steps", nargs="*", default=[], metavar="STEP", help="only these steps")
    parser.add_argument("--commit", default=None, help="the commit to write where there is no git checkout")


def run(args: argparse.Namespace) -> int:
    """Drives the steps; prints one line a step, the headline rows, and the goals beside what they say."""
    import torch

    from bench import facts
    from bench.gpu import drive, load
    from bench.gpu.steps import steps
    from cnn.errors import UserError

    if args.minutes <= 0:
        raise UserError("--minutes must be greater than 0")
    chosen = [step for step in steps() if not args.steps or step.name in args.steps]
    unknown = set(args.steps) - {step.name for step in chosen}
    if unknown:
        raise UserError(f"step {' '.join(sorted(unknown))} is unknown; choose from {' '.join(s.name for s in steps())}")
    cuda = torch.cuda.is_available()
    folder = args.out or (facts.results_folder(torch.device("cuda")) if cuda else facts.ROOT / "runs" / "gpu")
    visit = load(folder.resolve(), args.minutes, "cuda" if cuda else "cpu", args.commit or facts.commit())
    print(f"{facts.device_name('cuda') if cuda else 'no CUDA device'}, commit {visit.commit}, results in {folder}")
    code = drive(chosen, visit)
    headline = folder / "headline.jsonl"
    if headline.exists():
        from bench.brief import brief
        from bench.report.data import Device
        from bench.report.goals import table
        from bench.rows import lines, newest

        print(brief(headline))
        files = [path for path in (headline, folder / "searched.jsonl") if path.exists()]
        found = newest([row for path in files for row in lines(path)])
        print(table(Device(folder.name, found)) if found else "no row of the headline is whole")
    return code
