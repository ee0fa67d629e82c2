"""The float64 reference is torch's float64 convolution."""

import pytest
import torch

from tests.kernels.conv2d.cases import CASES, FUSED
from tests.kernels.problems import Problem, run


@pytest.mark.parametrize("case", [*CASES, *FUSED], ids=str)
def test_reference_equals_torch(case: Problem) -> None:
    tensors = case.tensors("cpu", torch.float64)
    for got, want in zip(run(case.reference, tensors), run(case.torchs, tensors), strict=True):
        if want is not None:
            torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
