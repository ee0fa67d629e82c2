"""The float64 reference is torch's float64 pooling, indices included."""

import pytest
import torch
import torch.nn.functional as F

from kernels.pool2d import reference
from tests.kernels.pool2d.cases import CASES
from tests.kernels.problems import Problem, run


@pytest.mark.parametrize("case", CASES, ids=str)
def test_reference_equals_torch(case: Problem) -> None:
    tensors = case.tensors("cpu", torch.float64)
    if tensors[0].numel() == 0:
        assert case.reference(*tensors).shape == case.torchs(*tensors).shape
        return
    for got, want in zip(run(case.reference, tensors), run(case.torchs, tensors), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("case", [c for c in CASES if c.function == "max_pool2d"], ids=str)
def test_indices_equal_torch(case: Problem) -> None:
    (x,) = case.tensors("cpu", torch.float64, integers=True)
    got = reference.max_pool2d(x, **case.options, return_indices=True)
    want = F.max_pool2d(x, **case.options, return_indices=True)
    torch.testing.assert_close(got, want, rtol=0, atol=0)
