"""Equal bits from run to run, with nothing to switch on, and whatever memory held before."""

from __future__ import annotations

import re
from pathlib import Path as File

import pytest
import torch

import kernels
from tests.kernels.conv2d.cases import BY_NAME
from tests.kernels.paths import Path
from tests.kernels.problems import DTYPES, STANDARD, Problem, make, run

SPLIT = BY_NAME["pixels beyond one split"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("problem", [*STANDARD, SPLIT], ids=str)
def test_equal_bits_from_run_to_run(path: Path, problem: Problem, dtype: torch.dtype) -> None:
    tensors = problem.tensors(path.device, dtype)
    dy = make(problem.torchs(*tensors).shape, path.device, dtype)
    first = run(problem.ours, tensors, dy)
    for again in range(2):
        torch.utils.deterministic.fill_uninitialized_memory = again == 0
        garbage = [torch.full((1 << 16,), float(again + 3), device=path.device) for _ in range(8)]
        del garbage
        try:
            second = run(problem.ours, tensors, dy)
        finally:
            torch.utils.deterministic.fill_uninitialized_memory = True
        assert all(a is None or torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_the_deterministic_mode_never_raises(path: Path, problem: Problem) -> None:
    torch.use_deterministic_algorithms(True, warn_only=False)
    run(problem.ours, problem.tensors(path.device))
    if problem.function == "max_pool2d":
        kernels.max_pool2d(*problem.tensors(path.device), **problem.options, return_indices=True)


def test_no_kernel_has_atomics() -> None:
    """Float atomics add in the order of arrival, which no two runs share."""
    for file in File(kernels.__file__).parent.rglob("*.py"):
        assert not re.search(r"tl\.atomic_|atomic_add", file.read_text()), file
