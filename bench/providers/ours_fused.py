"""LeNet whole: one kernel forward and three for all gradients, instead of the layers of the provider `ours`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bench import networks
from bench.cases import Case
from bench.problem import Problem, placed, step
from bench.providers import Contender, ours
from kernels.lenet import lenet

NAME = "ours_fused"
HELP = "this package, LeNet as one kernel"


def layouts(case: Case, device: torch.device) -> Sequence[str]:
    """With one channel both memory formats are the same memory."""
    return ("nchw",)


def reason(case: Case, device: torch.device) -> str | None:
    """LeNets only."""
    return None if case.network in networks.LENETS and case.layer is None else "only LeNet is one kernel"


def prepare(problem: Problem, layout: str) -> Contender:
    """The network with the weights of torch's."""
    assert problem.model is not None
    parameters = list(placed(problem.model, problem, layout).parameters())
    padding = networks.LENETS[problem.case.network]

    def forward(x: Tensor) -> Tensor:
        return lenet(x, parameters, padding=padding)

    with ours.scope(problem.device):
        timed = step(problem, forward, parameters, layout)
    return Contender(NAME, layout, ours.path(problem.device), timed, lambda: ours.scope(problem.device))
