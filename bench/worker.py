"""A process that times this package's side of cases on request: `python -m bench.worker DEVICE THREADS`.

One JSON request a line on stdin, one answer a line on stdout: {"case": name, "layout": layout} prepares a case,
{"calls": n} times it (0: choose n), {} ends. The bench package is this checkout's, `kernels` and `cnn` are those that
PYTHONPATH names first: that is how two commits are timed by the same code.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import torch

import kernels
from bench.cases import Case
from bench.cases.sets import everything_named
from bench.clock import Clock, clocks
from bench.gate import expected, judge
from bench.measure import calls_per_sample, turn
from bench.problem import problem
from bench.providers import Contender, eager, ours
from bench.run import copies, one_line, set_precision


class Worker:
    """The case in hand and the clock."""

    def __init__(self, device: torch.device, threads: int) -> None:
        torch.set_num_threads(threads)
        self.device = device
        self.clock: Clock = clocks(device)[0]
        self.contender: Contender | None = None

    def prepare(self, name: str, layout: str) -> dict[str, Any]:
        """Makes the case ready and judges its result; {"error": ...} when it cannot run or is wrong."""
        case: Case = everything_named(name)
        set_precision(case.precision)
        made = problem(case, self.device, copies(case, self.device))
        reference = expected(made)
        torchs = judge(made, eager.prepare(made, "nchw").step(0), reference)
        self.contender = ours.prepare(made, layout)
        with self.contender.scope():
            verdict = judge(made, self.contender.step(0), reference, torchs if torchs.ok else None)
        return {} if verdict.ok else {"error": f"wrong: {verdict.reason}"}

    def sample(self, calls: int) -> dict[str, Any]:
        """{"seconds": of one call, "calls": how many there were}."""
        contender = self.contender
        assert contender is not None
        with contender.scope():
            if not calls:
                calls = calls_per_sample(self.clock, contender, 0.1)
            return {"seconds": turn(contender, self.clock, calls)[0], "calls": calls}


def main(device: str, threads: int) -> None:
    """Answers until stdin ends. RuntimeError when the package is another one than the folder's that it is asked for."""
    if not str(kernels.__file__).startswith(os.getcwd()):
        raise RuntimeError(f"the worker in {os.getcwd()} imports {kernels.__file__}")
    worker = Worker(torch.device(device), threads)
    answers = sys.stdout
    # Whatever a library prints must not look like an answer.
    sys.stdout = sys.stderr
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        if not request:
            return
        try:
            if "case" in request:
                answer = worker.prepare(request["case"], request["layout"])
            else:
                answer = worker.sample(request["calls"])
        except Exception as error:
            answer = {"error": one_line(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
