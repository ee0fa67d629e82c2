"""The provider `ours` replayed from a CUDA graph."""

from __future__ import annotations

from bench import graphs
from bench.problem import Problem
from bench.providers import Contender, ours

NAME = "ours_graph"
HELP = "ours in a CUDA graph"
layouts = ours.layouts
reason = graphs.reason


def prepare(problem: Problem, layout: str) -> Contender:
    """The captured step on the case's tensors."""
    return graphs.captured(ours.prepare(problem, layout), NAME)
