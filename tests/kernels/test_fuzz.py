"""Random geometry x dtype x layout x requires_grad against the float64 reference, on small integers: exact.

The seed is in the report header; FUZZ_SEED=<seed> runs the same cases again, FUZZ_EXAMPLES=<n> as many as wanted. A
counterexample becomes a named case.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, event, given, seed, settings
from hypothesis import strategies as st

from tests.compare import assert_as_good, assert_exact
from tests.conftest import SEED
from tests.kernels.paths import CPU_PATH, TRITON_PATH, Path, overflow_checks, why_no_triton
from tests.kernels.problems import DTYPES, OURS, REFERENCE, Problem, leaves, make

EXAMPLES = {"triton": {"convolutions": 120, "pools": 400}, "cpu": {"convolutions": 1000, "pools": 1000}}
"""Fifteen seconds each at most: a convolution takes 0.1 s in the interpreter, anything else a few milliseconds."""


def _pairs(low: int, high: int) -> st.SearchStrategy[Any]:
    return st.one_of(st.integers(low, high), st.tuples(st.integers(low, high), st.integers(low, high)))


def _both(value: Any) -> tuple[int, int]:
    """Both axes of a size argument; 'same' and 'valid' as 0."""
    if isinstance(value, str):
        return (0, 0)
    return value if isinstance(value, tuple) else (value, value)


@st.composite
def convolutions(draw: st.DrawFn) -> Problem:
    """Any convolution whose kernel fits, small."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 5]))
    c_group, k_group = (draw(st.sampled_from([1, 2, 3, 17])) if groups < 3 else draw(st.integers(1, 2)) for _ in "ck")
    taps = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = draw(_pairs(1, 3))
    padding = draw(st.one_of(_pairs(0, 4), st.sampled_from(["same", "valid"])))
    stride = 1 if padding == "same" else draw(_pairs(1, 4))
    batch = draw(st.sampled_from([(2,), (1,), (), (0,)]))
    # Mostly sizes that the kernel fits into, and now and then one too small by a pixel.
    least = [d * (t - 1) + 1 - 2 * p for d, t, p in zip(_both(dilation), taps, _both(padding), strict=True)]
    size = [max(1, low + draw(st.integers(-1, 8))) for low in least]
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    function = draw(st.sampled_from(["conv2d", "conv2d", "conv2d_relu", "conv2d_relu_pool2d"]))
    if function == "conv2d_relu_pool2d":
        options["pool"] = draw(st.sampled_from(["max", "avg"]))
        options["ceil_mode"] = draw(st.booleans())
    x, w = (*batch, groups * c_group, *size), (groups * k_group, c_group, *taps)
    bias = (groups * k_group,) if draw(st.booleans()) else None
    return Problem("fuzz", function, (x, w, bias), options)


@st.composite
def pools(draw: st.DrawFn) -> Problem:
    """Any pool whose window fits, small; averages over powers of two, so that they are exact."""
    function = draw(st.sampled_from(["max_pool2d", "avg_pool2d"]))
    exact = [1, 2, 4]
    window = draw(_pairs(1, 5)) if function == "max_pool2d" else draw(st.tuples(*[st.sampled_from(exact)] * 2))
    half = min(window if isinstance(window, tuple) else (window, window)) // 2
    options: dict[str, Any] = {"kernel_size": window, "stride": draw(st.one_of(st.none(), _pairs(1, 4)))}
    options["padding"] = draw(st.integers(0, half))
    if function == "max_pool2d":
        options["dilation"] = draw(_pairs(1, 2))
        options["ceil_mode"] = draw(st.booleans())
    else:
        options["divisor_override"] = draw(st.sampled_from([None, 2, -4]))
    shape = (
        *draw(st.sampled_from([(), (1,), (2,)])),
        draw(st.integers(1, 3)),
        *draw(st.tuples(*[st.integers(1, 9)] * 2)),
    )
    return Problem("fuzz", function, (shape,), options)


def _kernel_too_large(problem: Problem) -> bool:
    """Whether the dilated kernel of a convolution exceeds the padded input."""
    x, w = problem.shapes[0], problem.shapes[1] if "groups" in problem.options else None
    if x is None or w is None or problem.options["padding"] == "same":
        return False
    padding, dilation = _both(problem.options["padding"]), _both(problem.options["dilation"])
    return any(dilation[i] * (w[2 + i] - 1) + 1 > x[i - 2] + 2 * padding[i] for i in (0, 1))


def _check(
    path: Path, problem: Problem, dtype: torch.dtype, channels_last: tuple[bool, ...], wants: tuple[bool, ...]
) -> None:
    torch.manual_seed(1)
    tensors = [
        make(s, path.device, dtype, form, integers=True) for s, form in zip(problem.shapes, channels_last, strict=False)
    ]
    try:
        want = problem.torchs(*(None if t is None else t.to("meta") for t in tensors))
        if _kernel_too_large(problem):  # meta tensors are not refused by torch 2.11, real ones are
            raise RuntimeError("the kernel is larger than the input")
    except (RuntimeError, ValueError) as error:
        event("refused by torch")
        with path.enter(), pytest.raises(type(error)):
            problem.ours(*tensors)
        return
    event(f"{problem.function} {str(dtype)[6:]}")
    ours = leaves(tensors, wants[: len(tensors)])
    exact = leaves([None if t is None else t.double().cpu() for t in tensors], wants[: len(tensors)])
    with path.enter(), overflow_checks(False):
        y = OURS[problem.function](*ours, **problem.options)
    assert (y.shape, y.dtype) == (want.shape, want.dtype)
    if not y.numel():
        return
    z = REFERENCE[problem.function](*exact, **problem.options)
    assert_exact(y, z, "result")
    if y.requires_grad:
        dy = make(y.shape, path.device, dtype, channels_last[0], integers=True)
        y.backward(dy)
        if z.requires_grad:
            z.backward(dy.double().cpu())
        for name, a, b in zip("xwb", ours, exact, strict=False):
            if a is not None and a.requires_grad:
                if b.grad is None:  # no window sees a pixel
                    b.grad = torch.zeros_like(b)
                if problem.options.get("pool") == "avg" or problem.function == "avg_pool2d":
                    assert_as_good(a.grad, b.grad.to(dtype), b.grad, f"gradient of {name}")
                else:
                    assert_exact(a.grad, b.grad, f"gradient of {name}")


def _fuzz(path: Path, problems: st.SearchStrategy[Problem], examples: int) -> None:
    flags = st.tuples(*[st.booleans()] * 3)

    # No shrinking by example database: a seed must give the same cases on every machine.
    @seed(int(os.environ[SEED]))
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(problems, st.sampled_from(DTYPES), flags, flags)
    def run(problem: Problem, dtype: torch.dtype, channels_last: tuple[bool, ...], wants: tuple[bool, ...]) -> None:
        _check(path, problem, dtype, channels_last, wants)

    run()


@pytest.mark.slow
@pytest.mark.parametrize("path", [TRITON_PATH, CPU_PATH], ids=str)
@pytest.mark.parametrize("kind", ["convolutions", "pools"])
def test_fuzz(path: Path, kind: str) -> None:
    if path is TRITON_PATH and (reason := why_no_triton()):
        pytest.skip(reason)
    problems = convolutions() if kind == "convolutions" else pools()
    _fuzz(path, problems, int(os.environ.get("FUZZ_EXAMPLES", EXAMPLES[path.name][kind])))
