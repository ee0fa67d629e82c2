"""A step captured once as a CUDA graph: what remains of a call when the host launches nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from bench.cases import Case
from bench.problem import Step
from bench.providers import Contender

WARM_UP = 3


def reason(case: Case, device: torch.device) -> str | None:
    """Graphs exist on CUDA; single backward passes start outside the capture."""
    if device.type != "cuda":
        return "CUDA graphs need CUDA"
    if case.work not in ("inference", "training"):
        return "captured for inference and training only"
    return None


def captured(contender: Contender, name: str) -> Contender:
    """The contender with its step on the first input replayed from a graph."""
    with contender.scope():
        replay = capture(contender.step)
    return dataclasses.replace(contender, provider=name, path=f"{contender.path}, CUDA graph", step=replay)


def capture(step: Step) -> Step:
    """Warms the step up on a side stream, as capture demands, and records it once."""
    stream: Any = torch.cuda.Stream
    side = stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            step(0)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step(0)

    def replay(i: int) -> tuple[Tensor, ...]:
        graph.replay()
        return results

    return replay
