"""This package's LeNet with fused=True: the whole network in one kernel, all gradients in a few more."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bench.cases import Case
from bench.problem import Problem, placed, step
from bench.providers import Contender, ours

NAME = "ours_fused"
HELP = "this package's LeNet in one kernel"


def layouts(case: Case, device: torch.device) -> Sequence[str]:
    """Images with one channel are the same memory in both formats."""
    return ("nchw",)


def reason(case: Case, device: torch.device) -> str | None:
    """One network is written as one kernel."""
    return None if (case.network, case.op) == ("lenet", "network") else "the whole network in one kernel is LeNet"


def prepare(problem: Problem, layout: str) -> Contender:
    """The model on the case's images, with the weights of torch's."""
    with ours.scope(problem.device):
        made = placed(ours.lenet(problem, fused=True), problem, layout)
        timed = step(problem, made, list(made.parameters()), layout)
    return Contender(NAME, layout, ours.path(problem.device), timed, lambda: ours.scope(problem.device))
