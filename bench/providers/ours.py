"""This package: Triton kernels on CUDA, never a fallback; the CPU path on the CPU."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

import kernels
from bench.cases import Case
from bench.problem import Forward, Problem, layer_forward, placed, step
from bench.providers import Contender, both_layouts
from cnn.models import LeNet
from kernels.backend import current_backend

NAME = "ours"
HELP = "this package"
layouts = both_layouts


def reason(case: Case, device: torch.device) -> str | None:
    """Runs everything; what the kernels cannot run raises and becomes a row that says so."""
    return None


def model(problem: Problem) -> nn.Module:
    """The network on this package's layers, with the weights of torch's."""
    if problem.case.network == "lenet":
        return lenet(problem)
    source = problem.model
    assert source is not None
    converted: nn.Module = kernels.convert(copy.deepcopy(source))
    return converted


def lenet(problem: Problem, fused: bool = False) -> LeNet:
    """LeNet layer by layer or in one kernel, with the weights of torch's."""
    source, made = problem.model, LeNet(fused=fused)
    assert source is not None
    with torch.no_grad():
        for ours, theirs in zip(made.parameters(), source.parameters(), strict=True):
            ours.copy_(theirs)
    return made


def forward(problem: Problem, layout: str) -> tuple[Forward, list[Tensor]]:
    """The case through the public functions and layers, and its parameters."""
    if problem.model is None:
        return layer_forward(problem, kernels, layout)
    made = placed(model(problem), problem, layout)
    return made, list(made.parameters())


def scope(device: torch.device) -> AbstractContextManager[Any]:
    """On CUDA Triton or an error: a benchmark must not time a fallback under this package's name."""
    return kernels.backend("triton") if device.type == "cuda" else nullcontext()


def path(device: torch.device) -> str:
    """What runs, for the row: a CPU number says that it is the CPU path's."""
    if device.type == "cuda":
        return "Triton kernels"
    return "Triton kernels, interpreted" if current_backend() == "triton" else "CPU path"


def prepare(problem: Problem, layout: str) -> Contender:
    """This package on the case's tensors."""
    with scope(problem.device):
        run, parameters = forward(problem, layout)
        timed = step(problem, run, parameters, layout)
    return Contender(NAME, layout, path(problem.device), timed, lambda: scope(problem.device))
