"""torch.compile of the eager form, default mode. Backward passes alone are timed only as a part of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bench.cases import Case
from bench.problem import Problem, step
from bench.providers import Contender, both_layouts, eager

NAME = "compile"
HELP = "torch.compile, default mode"


def layouts(case: Case, device: torch.device) -> Sequence[str]:
    """On the CPU Inductor chooses channels_last by itself, so one input layout is enough there."""
    return both_layouts(case, device) if device.type == "cuda" else ("nchw",)


def reason(case: Case, device: torch.device) -> str | None:
    """A compiled backward frees its buffers after one call, so it cannot be repeated alone."""
    if case.work in ("dgrad", "wgrad"):
        return "a compiled backward cannot run twice on one forward"
    return None


def compiled(problem: Problem, layout: str, name: str, path: str, **options: Any) -> Contender:
    """The eager form through torch.compile with static shapes. Compilation happens in the first call, the gate's.

    options: torch.compile's `mode` or `options`; by them it keeps apart what several providers compile of one case.
    """
    run, parameters = eager.forward(problem, layout)
    return Contender(
        name, layout, path, step(problem, torch.compile(run, dynamic=False, **options), parameters, layout)
    )


def prepare(problem: Problem, layout: str) -> Contender:
    """torch.compile on the case's tensors."""
    return compiled(problem, layout, NAME, "inductor")
