"""Chains that come in NCHW: which of their maps are in channels_last, and that nobody outside sees it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import kernels
from kernels.common.launch import record
from tests.compare import assert_same_form
from tests.kernels.paths import CPU_PATH, Path


class Odd(nn.Module):
    """A step that nobody knows, and that wants its map in NCHW."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1).view_as(x)


def wide(c: int = 32, k: int = 32, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(c, k, 3, padding=1, **options)


def last(layer: nn.Conv2d) -> nn.Conv2d:
    return layer.to(memory_format=torch.channels_last)


def stem() -> list[nn.Module]:
    return [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU()]


def hooked() -> nn.Module:
    layer = nn.ReLU()
    layer.register_forward_hook(lambda *_: None)
    return layer


# The layers, and the convolutions whose input is in channels_last.
MODELS: dict[str, tuple[Callable[[], list[nn.Module]], list[bool]]] = {
    "stem, then a stretch": (lambda: [*stem(), wide(), nn.ReLU(), nn.MaxPool2d(2), wide()], [False, True, True]),
    "norms": (lambda: [wide(), nn.BatchNorm2d(32), nn.ReLU(), wide(), nn.ReLU()], [True, True]),
    "one wide convolution": (lambda: [*stem(), wide(), nn.ReLU()], [False, False]),
    "thin ones in between": (lambda: [wide(), nn.ReLU(), wide(groups=32), wide()], [True, True, True]),
    "thin ones at the end": (lambda: [wide(), nn.ReLU(), wide(k=4), wide(4, 4)], [True, True, False]),
    "an unknown step": (lambda: [wide(), nn.ReLU(), Odd(), wide(), Odd()], [False, False]),
    "an unknown step after a stretch": (lambda: [wide(), wide(), nn.ReLU(), Odd()], [True, True]),
    "a hook": (lambda: [wide(), hooked(), wide(), nn.ReLU()], [False, False]),
    "nested": (lambda: [nn.Sequential(wide(), nn.ReLU()), nn.Sequential(nn.ReLU(), wide())], [True, True]),
    "filters in channels_last": (lambda: [wide(), nn.ReLU(), last(wide())], [False, False]),
}


@pytest.fixture
def formats(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the input of each convolution of a chain is in channels_last, in order."""
    found: list[bool] = []

    def spied(layer: nn.Conv2d, x: Tensor) -> Any:
        found.append(x.is_contiguous(memory_format=torch.channels_last))
        return padded(layer, x)

    padded = kernels.Conv2d._padded
    monkeypatch.setattr(kernels.Conv2d, "_padded", spied)
    return found


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y = model(x)
    y.square().sum().backward()
    return [y.detach(), x.grad, *[p.grad for p in model.parameters()]]


@pytest.mark.parametrize("name", MODELS)
def test_a_stretch_is_in_channels_last_and_its_ends_are_not(name: str, triton: Path, formats: list[bool]) -> None:
    make, expected = MODELS[name]
    theirs = nn.Sequential(*make()).to(triton.device)
    ours = kernels.convert(copy.deepcopy(theirs))
    x = torch.randn(2, theirs[0].in_channels if hasattr(theirs[0], "in_channels") else 32, 6, 5, device=triton.device)
    found = gradients(ours, x)
    assert formats == expected
    for a, b in zip(found, gradients(theirs, x), strict=True):
        assert_same_form(a, b, loose=True)
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_maps_inside_are_not_copied() -> None:
    model = kernels.convert(nn.Sequential(wide(), nn.ReLU(), wide(), nn.ReLU(), nn.MaxPool2d(2), wide()))
    with kernels.backend("triton"), record() as found, torch.no_grad():
        y = model(torch.empty(2, 32, 8, 8))
    maps = [call for call in found if "pack" in call.kernel.__name__ and call.arguments["x_ptr"].shape[2:] != (3, 3)]
    assert y.is_contiguous() and not maps and len(found) == 6  # the filters of three convolutions


@pytest.mark.parametrize("x", [torch.randn(32, 6, 5), torch.empty(0, 32, 6, 5)], ids=["unbatched", "empty batch"])
def test_other_maps_stay_as_they_are(x: Tensor, triton: Path, formats: list[bool]) -> None:
    layers = [wide(), nn.ReLU(), wide()]
    x, theirs = x.to(triton.device), nn.Sequential(*layers).to(triton.device)
    y = kernels.convert(copy.deepcopy(theirs))(x)
    assert y.shape == theirs(x).shape and y.stride() == theirs(x).stride()


def test_a_mapped_chain(triton: Path) -> None:
    theirs = nn.Sequential(wide(), nn.ReLU(), wide()).to(triton.device)
    ours, x = kernels.convert(copy.deepcopy(theirs)), torch.randn(2, 1, 32, 4, 4, device=triton.device)
    torch.testing.assert_close(torch.func.vmap(ours)(x), torch.func.vmap(theirs)(x), rtol=1e-4, atol=1e-4)


def test_the_cpu_path_runs_in_nchw(formats: list[bool]) -> None:
    with CPU_PATH.enter():
        kernels.convert(nn.Sequential(wide(), nn.ReLU(), wide()))(torch.randn(1, 32, 4, 4))
    assert formats == [False, False]
