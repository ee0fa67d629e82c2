"""FlagGems' Triton kernels in place of torch's operators, where that package is installed."""

from __future__ import annotations

import importlib
import importlib.util
from contextlib import AbstractContextManager
from typing import Any

import torch

from bench.cases import Case
from bench.problem import Problem
from bench.providers import Contender, both_layouts, eager

NAME = "flaggems"
HELP = "FlagGems"
layouts = both_layouts


def reason(case: Case, device: torch.device) -> str | None:
    """Never required: a row exists where the package and a card do."""
    if device.type != "cuda":
        return "FlagGems needs CUDA"
    if importlib.util.find_spec("flag_gems") is None:
        return "flag_gems is not installed"
    return None


def scope() -> AbstractContextManager[Any]:
    """torch's operators are FlagGems' inside."""
    gems: Any = importlib.import_module("flag_gems")
    chosen: AbstractContextManager[Any] = gems.use_gems()
    return chosen


def prepare(problem: Problem, layout: str) -> Contender:
    """The eager form on the case's tensors, prepared and run inside FlagGems' scope."""
    with scope():
        contender = eager.prepare(problem, layout)
    return Contender(NAME, layout, "FlagGems", contender.step, scope)
