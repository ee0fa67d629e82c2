"""torch's own operators as a careful user calls them: cuDNN with benchmark=True on CUDA, aten on the CPU."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from bench import torch_api
from bench.cases import Case
from bench.problem import Forward, Problem, layer_forward, placed, step
from bench.providers import Contender, both_layouts

NAME = "eager"
HELP = "torch eager"
layouts = both_layouts


def reason(case: Case, device: torch.device) -> str | None:
    """Runs everything."""
    return None


def forward(problem: Problem, layout: str) -> tuple[Forward, list[Tensor]]:
    """The case in torch's own operators, and its parameters."""
    if problem.model is None:
        return layer_forward(problem, torch_api, layout)
    model = placed(copy.deepcopy(problem.model), problem, layout)
    return model, list(model.parameters())


def path(device: torch.device) -> str:
    """Which library runs torch's convolutions there."""
    cudnn: Any = torch.backends.cudnn
    return f"cuDNN {cudnn.version()}" if device.type == "cuda" else "aten"


def prepare(problem: Problem, layout: str) -> Contender:
    """torch on the case's tensors."""
    run, parameters = forward(problem, layout)
    return Contender(NAME, layout, path(problem.device), step(problem, run, parameters, layout))
