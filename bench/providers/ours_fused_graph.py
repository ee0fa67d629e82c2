"""The provider `ours_fused` replayed from a CUDA graph."""

from __future__ import annotations

import torch

from bench import graphs
from bench.cases import Case
from bench.problem import Problem
from bench.providers import Contender, ours_fused

NAME = "ours_fused_graph"
HELP = "ours_fused in a CUDA graph"
layouts = ours_fused.layouts


def reason(case: Case, device: torch.device) -> str | None:
    """What a graph needs, and LeNets only."""
    return ours_fused.reason(case, device) or graphs.reason(case, device)


def prepare(problem: Problem, layout: str) -> Contender:
    """The captured step on the case's tensors."""
    return graphs.captured(ours_fused.prepare(problem, layout), NAME)
