"""cuDNN's own fused convolution, bias and ReLU: torch.cudnn_convolution_relu."""

from __future__ import annotations

import torch

from bench.cases import Case
from bench.problem import FORMATS, Problem, step
from bench.providers import Contender, both_layouts

NAME = "cudnn_fused"
HELP = "cuDNN's fused convolution, bias and ReLU"
layouts = both_layouts


def reason(case: Case, device: torch.device) -> str | None:
    """It exists on CUDA, for this one function, without gradients."""
    if device.type != "cuda":
        return "cuDNN needs CUDA"
    if case.op != "conv2d_relu" or case.work != "inference":
        return "cuDNN fuses convolution, bias and ReLU in inference only"
    return None


def prepare(problem: Problem, layout: str) -> Contender:
    """The fused operator on the case's tensors."""
    found = problem.case.layer
    assert found is not None and problem.weight is not None
    weight, bias = problem.weight.clone(memory_format=FORMATS[layout]), problem.bias

    def forward(x: torch.Tensor) -> torch.Tensor:
        return torch.cudnn_convolution_relu(x, weight, bias, found.stride, found.padding, found.dilation, found.groups)

    return Contender(NAME, layout, "cuDNN fused", step(problem, forward, [], layout))
