"""torch.compile(mode="max-autotune"): Inductor's own search, replayed from CUDA graphs that torch keeps itself."""

from __future__ import annotations

import torch

from bench.cases import Case
from bench.problem import Problem
from bench.providers import Contender, compile

NAME = "compile_max"
HELP = "torch.compile, max-autotune"
layouts = compile.layouts


def reason(case: Case, device: torch.device) -> str | None:
    """On CUDA only: on the CPU the search changes matrix products, not convolutions, and takes minutes."""
    if device.type != "cuda":
        return "the search is for CUDA"
    return compile.reason(case, device)


def prepare(problem: Problem, layout: str) -> Contender:
    """torch.compile on the case's tensors, its templates searched, replayed from graphs from the third call on."""
    return compile.compiled(problem, layout, NAME, "inductor max-autotune", mode="max-autotune")
