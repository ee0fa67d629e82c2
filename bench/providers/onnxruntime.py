"""ONNX Runtime on the CPU: inference in float32, weights known to its optimiser, results into a bound buffer."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.cases import Case
from bench.onnx_graph import graph_of
from bench.problem import Problem
from bench.providers import Contender

NAME = "onnxruntime"
HELP = "ONNX Runtime"


def layouts(case: Case, device: torch.device) -> Sequence[str]:
    """ONNX is NCHW; the runtime blocks its tensors inside as it likes."""
    return ("nchw",)


def reason(case: Case, device: torch.device) -> str | None:
    """Never required: rows exist where onnx and onnxruntime are installed."""
    if device.type != "cpu":
        return "measured on the CPU only"
    if case.work != "inference" or case.precision != "fp32":
        return "inference in float32 only"
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else None


def prepare(problem: Problem, layout: str) -> Contender:
    """A session with torch's number of threads, inputs and output bound once."""
    import onnxruntime

    model, output = graph_of(problem)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    bindings: list[tuple[Any, Tensor]] = []
    for x in problem.inputs:
        binding = session.io_binding()
        binding.bind_cpu_input("x", x.contiguous().numpy())
        binding.bind_output(output, "cpu")
        bindings.append((binding, x))

    def step(i: int) -> tuple[Tensor, ...]:
        binding, _ = bindings[i % len(bindings)]
        session.run_with_iobinding(binding)
        return (torch.from_numpy(binding.get_outputs()[0].numpy()),)

    return Contender(NAME, layout, f"ONNX Runtime {onnxruntime.__version__}", step)
