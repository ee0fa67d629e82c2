"""The provider `eager` replayed from a CUDA graph."""

from __future__ import annotations

from bench import graphs
from bench.problem import Problem
from bench.providers import Contender, eager

NAME = "eager_graph"
HELP = "eager in a CUDA graph"
layouts = eager.layouts
reason = graphs.reason


def prepare(problem: Problem, layout: str) -> Contender:
    """The captured step on the case's tensors."""
    return graphs.captured(eager.prepare(problem, layout), NAME)
