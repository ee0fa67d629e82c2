"""The score of this package on torch's own tests, per operator and category."""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch

from tests.conformance import checks
from tests.conformance.samples import FLOATS, LAYERS, OPERATORS, dtypes
from tests.kernels.paths import CPU_PATH, TRITON_PATH, Path, overflow_checks, why_no_triton

PATHS = {"triton": TRITON_PATH, "cpu": CPU_PATH}
CATEGORIES = ("forward", "backward", "gradgrad", "forward AD", "errors", "objects")
MANY_SAMPLES = ("max_pool2d", "max_pool1d")
PARTS = 4
"""Pieces of the operators with many samples, so that processes share them evenly."""


def main(argv: list[str] | None = None) -> int:
    """Print the score; exit code 1 unless it is 100 %, 2 where a path cannot run."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--path", choices=(*PATHS, "both"), default="both", help="the Triton kernels, the CPU path")
    parser.add_argument("--operator", action="append", choices=(*OPERATORS, *LAYERS), help="only this one (repeatable)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th sample of an operator")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--json", metavar="FILE", help="write the score here too")
    options = parser.parse_args(argv)
    for number in ("every", "jobs"):
        if getattr(options, number) < 1:
            parser.error(f"--{number} must be at least 1, not {getattr(options, number)}")
    paths = list(PATHS) if options.path == "both" else [options.path]
    if "triton" in paths and (reason := why_no_triton()):
        print(f"conformance: {reason}", file=sys.stderr)
        return 2
    score = run(paths, options.operator or [*OPERATORS, *LAYERS], options.every, options.jobs)
    print(table(score))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(as_json(score, options.every), file, indent=1)
    return 0 if all(not count.failures for path in score.values() for count in path.values()) else 1


def run(paths: list[str], names: list[str], every: int, jobs: int) -> dict[str, checks.Score]:
    """The score of every path."""
    tasks = [(path, *task, every) for path in paths for name in names for task in _tasks(name, PATHS[path])]
    score: dict[str, checks.Score] = {path: {} for path in paths}
    results: Any
    if jobs == 1:
        results = map(_work, tasks)
    else:
        # Fork copies the parsed samples' modules and nothing that runs; CUDA cannot be forked.
        method = "spawn" if torch.cuda.is_available() else "fork"
        results = ProcessPoolExecutor(jobs, get_context(method)).map(_work, tasks)
    for (path, *_), found in zip(tasks, results, strict=True):
        for key, count in found.items():
            total = score[path].setdefault(key, checks.Count())
            total.passed += count.passed
            total.failures += count.failures
    return score


def _tasks(name: str, path: Path) -> list[tuple[str, torch.dtype | None, int, int]]:
    """(name, dtype, part, parts); dtype None stands for the error samples."""
    if name in LAYERS:
        return [(name, dtype, 0, 1) for dtype in FLOATS]
    pieces = {d: PARTS if name in MANY_SAMPLES and d in FLOATS else 1 for d in dtypes(name, path.device)}
    return [(name, None, 0, 1)] + [(name, d, i, parts) for d, parts in pieces.items() for i in range(parts)]


def _work(task: tuple[str, str, torch.dtype | None, int, int, int]) -> checks.Score:
    name_of_path, name, dtype, index, parts, every = task
    torch.set_num_threads(1)
    path, scorer = PATHS[name_of_path], checks.Scorer()
    with overflow_checks(False):
        if name in LAYERS:
            assert dtype is not None
            checks.layer(scorer, path, name, dtype)
        elif dtype is None:
            checks.errors(scorer, path, name)
        else:
            checks.operator(scorer, path, name, dtype, index, parts, every)
    return dict(scorer.score)


def table(score: dict[str, checks.Score]) -> str:
    """The score as text, failures last."""
    lines = []
    for path, counts in score.items():
        lines.append(f"{path:20s}" + "".join(f"{c:>14s}" for c in CATEGORIES))
        for name in dict.fromkeys(name for name, _ in counts):
            cells = [counts.get((name, c)) for c in CATEGORIES]
            lines.append(f"{name:20s}" + "".join(f"{_cell(c):>14s}" for c in cells))
        passed, total = sum(c.passed for c in counts.values()), sum(c.total for c in counts.values())
        lines.append(f"{path}: {passed} of {total} = {100 * passed / max(total, 1):.2f} %")
        lines += [f"  FAILED {failure}" for count in counts.values() for failure in count.failures]
    return "\n".join(lines)


def _cell(count: checks.Count | None) -> str:
    return "-" if count is None else f"{count.passed}/{count.total}"


def as_json(score: dict[str, checks.Score], every: int) -> dict[str, Any]:
    """The score as JSON: versions, then passed and total per path, name and category, and every failure."""
    import triton

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu (interpreter)"
    rows = [
        {"path": path, "name": name, "category": category, "passed": c.passed, "total": c.total, "failures": c.failures}
        for path, counts in score.items()
        for (name, category), c in counts.items()
    ]
    return {"torch": torch.__version__, "triton": triton.__version__, "device": device, "every": every, "rows": rows}


if __name__ == "__main__":
    sys.exit(main())
