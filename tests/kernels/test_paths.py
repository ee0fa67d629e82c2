"""The tests' own ground: garbage in new memory, the path they claim to run, and a judge that can say no."""

import pytest
import torch

import kernels
from kernels.common import launch
from tests.compare import assert_as_good, assert_exact, assert_same_form
from tests.kernels.paths import TRITON_PATH, Path


def test_new_memory_holds_garbage(path: Path) -> None:
    assert torch.empty(5, device=path.device).isnan().all()
    assert torch.ones(3, device=path.device).new_empty(5).isnan().all()
    assert (torch.empty(5, dtype=torch.uint8, device=path.device) == 255).all()


def test_the_triton_path_launches_kernels(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 2, 4, 4, device=path.device)
    with launch.record() as launches:
        kernels.max_pool2d(x, 2)
    assert bool(launches) == (path is TRITON_PATH)


@pytest.mark.parametrize("factor", [1.0, 1.5, 3.0])
def test_the_judge_allows_twice_the_error_of_torch(factor: float) -> None:
    exact = torch.randn(100, dtype=torch.float64)
    noise = 1e-3 * torch.randn(100, dtype=torch.float64)
    torchs, ours = (exact + noise).float(), (exact + factor * noise).float()
    if factor < 2:
        assert_as_good(ours, torchs, exact)
    else:
        with pytest.raises(AssertionError, match="error"):
            assert_as_good(ours, torchs, exact)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_judge_sees_special_values(value: float) -> None:
    exact = torch.zeros(4)
    special = torch.tensor([0.0, value, 0.0, 0.0])
    assert_as_good(special, special, exact)
    for ours, torchs in ((special, exact), (exact, special), (special, special.roll(1))):
        with pytest.raises(AssertionError):
            assert_as_good(ours, torchs, exact)


def test_the_judge_sees_forms_and_single_elements() -> None:
    a = torch.arange(8.0).reshape(2, 2, 2, 1)
    with pytest.raises(AssertionError, match="strides"):
        assert_same_form(a, a.permute(1, 0, 2, 3))
    b = a.clone()
    b[1, 0, 1, 0] += 1
    with pytest.raises(AssertionError, match=r"1 of 8 elements differ; first at \(1, 0, 1, 0\)"):
        assert_exact(b, a)
