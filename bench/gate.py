"""The gate before the clock: a result is judged against float64, and a wrong provider is not timed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench import torch_api
from bench.problem import Problem, layer_forward, step

# Relative error (root mean square) that rounding explains. Others may have twice torch's own error if that is larger.
LIMITS = {"fp32": 2e-5, "tf32": 2e-3, "fp16": 4e-3, "bf16": 3e-2}
# A single element may be off by this many times the limit, measured in root mean squares of the tensor.
PEAK = 40.0
# torch itself: a maximum or a ReLU whose rounded candidates tie sends a gradient elsewhere than float64 does.
ROUTED_LIMIT = 0.1
# Larger problems are compared on the first and the last images; gradients of weights always on all.
CHUNK_ELEMENTS = 1 << 27


@dataclass(frozen=True)
class Verdict:
    """error: the largest relative error of the results; errors: of each by name."""

    ok: bool
    error: float
    reason: str = ""
    errors: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Expected:
    """float64 results: name, value, and the images that it covers (None: not per image)."""

    name: str
    value: Tensor
    images: tuple[int, int] | None


@contextmanager
def _unsearched() -> Iterator[None]:
    """cuDNN takes the float64 algorithm it thinks best: to try them all takes longer than the answer."""
    cudnn = torch.backends.cudnn
    before, cudnn.benchmark = cudnn.benchmark, False
    try:
        yield
    finally:
        cudnn.benchmark = before


@_unsearched()
def expected(problem: Problem) -> list[Expected]:
    """The float64 results of the case by torch's own operators, in the order in which a step returns them."""
    if problem.model is not None:
        return _expected_network(problem)
    case, found = problem.case, problem.case.layer
    assert found is not None
    p, q = found.out
    image = max(found.c * found.h * found.w, found.k_out * p * q)
    size = max(1, CHUNK_ELEMENTS // image)
    starts = list(range(0, case.batch, size))
    wants_w = case.work in ("wgrad", "training") and problem.weight is not None
    results: list[Expected] = []
    total: list[Tensor] = []
    for start in starts:
        end = min(case.batch, start + size)
        kept = start in (starts[0], starts[-1])
        if not (kept or wants_w):
            continue
        values, gradients = _chunk(problem, start, end)
        if kept:
            results += [Expected(name, value, (start, end)) for name, value in values]
        total = gradients if not total else [a.add_(b) for a, b in zip(total, gradients, strict=True)]
    names = ("weight gradient", "bias gradient")
    return results + [Expected(name, value, None) for name, value in zip(names, total, strict=False)]


def _chunk(problem: Problem, start: int, end: int) -> tuple[list[tuple[str, Tensor]], list[Tensor]]:
    """The per-image results and the parameters' gradients of some of the images, in float64."""
    case = problem.case
    assert case.layer is not None
    small = copy.copy(problem)
    small.case = case.with_(batch=end - start)
    small.placed = {}
    small.inputs = [problem.inputs[0][start:end].double()]
    small.weight = None if problem.weight is None else problem.weight.double()
    small.bias = None if problem.bias is None else problem.bias.double()
    small.dy = None if problem.dy is None else problem.dy[start:end].double()
    forward, parameters = layer_forward(small, torch_api, "nchw")
    results = list(step(small, forward, parameters, "nchw")(0))
    names = {"dgrad": ["input gradient"], "wgrad": []}.get(case.work, ["output"])
    if case.work == "training" and not case.layer.from_image:
        names = ["output", "input gradient"]
    values = [(name, result.detach()) for name, result in zip(names, results, strict=False)]
    return values, [result.detach() for result in results[len(names) :]]


def _expected_network(problem: Problem) -> list[Expected]:
    double = copy.copy(problem)
    double.placed = {}
    double.inputs = [problem.inputs[0].double()]
    assert problem.model is not None
    # The weights as the providers round them.
    model = copy.deepcopy(problem.model).to(problem.device, problem.dtype).double()
    parameters = list(model.parameters())
    results = step(double, model, parameters, "nchw")(0)
    names = ["scores", *(f"gradient {i}" for i in range(len(parameters)))]
    images = (0, problem.case.batch)
    pairs = zip(names, results, strict=problem.case.work == "training")
    return [Expected(name, result.detach(), images if name == "scores" else None) for name, result in pairs]


def judge(
    problem: Problem, results: Sequence[Tensor], reference: Sequence[Expected], torchs: Verdict | None = None
) -> Verdict:
    """Whether the results are right. torchs: the verdict on torch's own results; None when these are they."""
    names = list(dict.fromkeys(item.name for item in reference))
    if len(results) != len(names):
        return Verdict(False, float("inf"), f"{len(results)} results where {len(names)} are expected")
    by_name = dict(zip(names, results, strict=True))
    limit = LIMITS[problem.case.precision]
    errors: dict[str, float] = {}
    for item in reference:
        actual = by_name[item.name]
        allowed = limit if torchs is None else max(limit, 2 * torchs.errors.get(item.name, 0.0))
        if torchs is None and item.name != "output" and problem.case.op not in ("conv2d", "avg_pool2d"):
            allowed = max(limit, ROUTED_LIMIT)
        verdict = _compare(item, actual, allowed)
        errors[item.name] = max(errors.get(item.name, 0.0), verdict.error)
        if not verdict.ok:
            return verdict
    return Verdict(True, max(errors.values()), "", errors)


def _compare(item: Expected, actual: Tensor, allowed: float) -> Verdict:
    expected_shape = tuple(item.value.shape)
    part = actual.detach() if item.images is None else actual.detach()[item.images[0] : item.images[1]]
    if tuple(part.shape) != expected_shape:
        return Verdict(False, float("inf"), f"{item.name} is {tuple(part.shape)}, not {expected_shape}")
    difference = part.to(item.value.device).double() - item.value
    scale = item.value.square().mean().sqrt().clamp_min(1e-30)
    error = float(difference.square().mean().sqrt() / scale)
    peak = float(difference.abs().max() / scale) if difference.numel() else 0.0
    # Written so that NaN fails.
    if not error <= allowed:
        return Verdict(False, error, f"{item.name} has relative error {error:.2g}, allowed {allowed:.2g}")
    if not peak <= PEAK * allowed:
        return Verdict(False, error, f"{item.name} has an element off by {peak:.2g} of the tensor's rms")
    return Verdict(True, error)
