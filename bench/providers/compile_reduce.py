"""torch.compile(mode="reduce-overhead"): Inductor's code replayed from CUDA graphs that torch keeps itself."""

from __future__ import annotations

import torch

from bench.cases import Case
from bench.problem import Problem
from bench.providers import Contender, compile

NAME = "compile_reduce"
HELP = "torch.compile, reduce-overhead"
layouts = compile.layouts


def reason(case: Case, device: torch.device) -> str | None:
    """On CUDA only: elsewhere the mode is the default one."""
    if device.type != "cuda":
        return "CUDA graphs need CUDA"
    return compile.reason(case, device)


def prepare(problem: Problem, layout: str) -> Contender:
    """torch.compile on the case's tensors, replayed from graphs from the third call on."""
    return compile.compiled(problem, layout, NAME, "inductor reduce-overhead", mode="reduce-overhead")
