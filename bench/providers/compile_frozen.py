"""torch.compile with frozen weights: for inference Inductor then packs them for oneDNN and fuses what follows."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from bench.cases import Case
from bench.problem import Problem
from bench.providers import Contender, compile

NAME = "compile_frozen"
HELP = "torch.compile, frozen weights"
layouts = compile.layouts


def reason(case: Case, device: torch.device) -> str | None:
    """Weights freeze where they belong to a module that only infers."""
    if device.type != "cpu":
        return "packed weights are for the CPU"
    if case.op != "network" or case.work != "inference":
        return "weights freeze in a network's inference"
    return None


def scope() -> AbstractContextManager[Any]:
    """Inductor's setting in force; it is read when the first call compiles."""
    import torch._inductor.config

    patch: Any = torch._inductor.config.patch
    chosen: AbstractContextManager[Any] = patch(freezing=True)
    return chosen


def prepare(problem: Problem, layout: str) -> Contender:
    """torch.compile on the case's tensors."""
    contender = compile.compiled(problem, layout, None, NAME, "inductor, frozen weights")
    contender.scope = scope
    return contender
