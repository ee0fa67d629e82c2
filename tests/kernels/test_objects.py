"""The layers as objects: state, copies, pickles, casts, parametrizations, pruning, hooks, padding modes."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import kernels
from tests.compare import assert_as_good, assert_same_form
from tests.kernels.paths import Path

LAYERS: dict[str, Any] = {
    "Conv2d": lambda: (kernels.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)),
    "ConvReLU2d": lambda: (kernels.ConvReLU2d(3, 4, 3), nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())),
    "ConvReLUPool2d": lambda: (
        kernels.ConvReLUPool2d(3, 4, 3, pool="avg"),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2)),
    ),
    "MaxPool2d": lambda: (kernels.MaxPool2d(2), nn.MaxPool2d(2)),
    "AvgPool2d": lambda: (kernels.AvgPool2d(2), nn.AvgPool2d(2)),
}
CONVOLUTIONS = ["Conv2d", "ConvReLU2d", "ConvReLUPool2d"]


def _pair(name: str, device: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Module]:
    """Ours and torch's with the same parameters."""
    ours, theirs = LAYERS[name]()
    first = theirs[0] if isinstance(theirs, nn.Sequential) else theirs
    ours.load_state_dict(first.state_dict())
    return ours.to(device, dtype), theirs.to(device, dtype)


def _input(device: str, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, 3, 8, 8, device=device, dtype=dtype)


def _assert_same(ours: nn.Module, theirs: nn.Module, x: Tensor) -> None:
    got, want = ours(x), theirs(x)
    torch.testing.assert_close(got, want)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        (grad,) = torch.autograd.grad(ours(x).square().sum(), a)
        (expected,) = torch.autograd.grad(theirs(x).square().sum(), b)
        torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_state_goes_both_ways(path: Path, name: str) -> None:
    ours, theirs = _pair(name, path.device)
    first = theirs[0] if isinstance(theirs, nn.Sequential) else theirs
    assert isinstance(ours, type(first))
    assert list(ours.state_dict()) == list(first.state_dict())
    with torch.no_grad():
        for p in ours.parameters():
            p.add_(1)
    first.load_state_dict(ours.state_dict())
    _assert_same(ours, theirs, _input(path.device))


@pytest.mark.parametrize("name", LAYERS)
def test_copies_and_pickles(path: Path, name: str) -> None:
    ours, _ = _pair(name, path.device)
    x = _input(path.device)
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    for twin in (
        copy.deepcopy(ours),
        copy.copy(ours),
        pickle.loads(pickle.dumps(ours)),
        torch.load(file, weights_only=False),
    ):
        assert type(twin) is type(ours) and repr(twin) == repr(ours)
        assert torch.equal(twin(x), ours(x))


@pytest.mark.parametrize("name", LAYERS)
def test_checkpoints_load_with_weights_only(path: Path, name: str) -> None:
    ours, _ = _pair(name, path.device)
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    ours.load_state_dict(torch.load(file, weights_only=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_casts(path: Path, name: str, dtype: torch.dtype) -> None:
    ours, theirs = _pair(name, path.device)
    ours, theirs = ours.to(dtype), theirs.to(dtype)
    x = _input(path.device, dtype)
    want = theirs(x)
    assert_as_good(ours(x), want, theirs.double()(x.double()))


@pytest.mark.parametrize("name", LAYERS)
def test_memory_formats(path: Path, name: str) -> None:
    ours, theirs = _pair(name, path.device)
    ours, theirs = (m.to(memory_format=torch.channels_last) for m in (ours, theirs))
    for x in (_input(path.device), _input(path.device).contiguous(memory_format=torch.channels_last)):
        assert_same_form(ours(x), theirs(x), loose=True)
        _assert_same(ours, theirs, x)


@pytest.mark.parametrize("name", LAYERS)
def test_moving_to_meta_and_back(path: Path, name: str) -> None:
    ours, theirs = _pair(name, path.device)
    state = ours.state_dict()
    empty = copy.deepcopy(ours).to("meta")
    assert empty(_input("meta")).shape == theirs(_input(path.device)).shape
    empty.to_empty(device=path.device).load_state_dict(state)
    _assert_same(empty, theirs, _input(path.device))


def test_repr_is_torchs() -> None:
    for name in ("Conv2d", "MaxPool2d", "AvgPool2d"):
        ours, theirs = LAYERS[name]()
        assert repr(ours) == repr(theirs)
    assert repr(kernels.ConvReLU2d(1, 2, 3)) == "ConvReLU2d(1, 2, kernel_size=(3, 3), stride=(1, 1))"
    assert "pool=avg" in repr(kernels.ConvReLUPool2d(1, 2, 3, pool="avg"))


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [1, (2, 1), "same"], ids=str)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_padding_modes(path: Path, name: str, padding: Any, mode: str) -> None:
    ours = getattr(kernels, name)(3, 4, (4, 3), padding=padding, padding_mode=mode).to(path.device)
    theirs = nn.Conv2d(3, 4, (4, 3), padding=padding, padding_mode=mode).to(path.device)
    theirs.load_state_dict(ours.state_dict())
    after = {"Conv2d": [], "ConvReLU2d": [nn.ReLU()], "ConvReLUPool2d": [nn.ReLU(), nn.MaxPool2d(2)]}[name]
    _assert_same(ours, nn.Sequential(theirs, *after), _input(path.device))


PARAMETRIZATIONS = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
}


@pytest.mark.parametrize("kind", PARAMETRIZATIONS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_parametrizations(path: Path, name: str, kind: str) -> None:
    ours, theirs = _pair(name, path.device)
    for module in (ours, theirs[0] if isinstance(theirs, nn.Sequential) else theirs):
        torch.manual_seed(1)
        PARAMETRIZATIONS[kind](module)
    ours.eval(), theirs.eval()
    _assert_same(ours, theirs, _input(path.device))
    assert isinstance(ours, getattr(kernels, name))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_old_weight_norm(path: Path) -> None:
    ours, theirs = _pair("Conv2d", path.device)
    x = _input(path.device)
    torch.testing.assert_close(nn.utils.weight_norm(ours)(x), nn.utils.weight_norm(theirs)(x))


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_pruning(path: Path, name: str) -> None:
    ours, theirs = _pair(name, path.device)
    for module in (ours, theirs[0] if isinstance(theirs, nn.Sequential) else theirs):
        prune.l1_unstructured(module, "weight", 0.5)
    _assert_same(ours, theirs, _input(path.device))
    prune.remove(ours, "weight")
    torch.testing.assert_close(ours(_input(path.device)).shape, theirs(_input(path.device)).shape)
    assert int((ours.weight == 0).sum()) == ours.weight.numel() // 2


@pytest.mark.parametrize("name", LAYERS)
def test_hooks_see_the_call(path: Path, name: str) -> None:
    ours, _ = _pair(name, path.device)
    seen: list[str] = []
    ours.register_forward_pre_hook(lambda *_: seen.append("before"))
    ours.register_forward_hook(lambda *_: seen.append("after"))
    ours.register_full_backward_hook(lambda *_: seen.append("backward"))
    ours(_input(path.device).requires_grad_()).sum().backward()
    assert seen == ["before", "after", "backward"]


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_freezing(path: Path, name: str) -> None:
    ours, _ = _pair(name, path.device)
    ours.weight.requires_grad_(False)
    ours(_input(path.device)).sum().backward()
    assert ours.weight.grad is None and ours.bias.grad is not None


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW], ids=lambda o: o.__name__)
def test_training_steps_equal_torchs(path: Path, optimizer: Any) -> None:
    ours, theirs = _pair("ConvReLUPool2d", path.device, torch.float64)
    steps = [optimizer(m.parameters(), lr=0.1) for m in (ours, theirs)]
    for _ in range(3):
        x = _input(path.device, torch.float64)
        for module, step in zip((ours, theirs), steps, strict=True):
            step.zero_grad()
            module(x).square().mean().backward()
            step.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_subclasses_of_tensor(path: Path) -> None:
    """A subclass with a __torch_function__ of its own sees torch's rules: it comes out again."""

    class Tagged(Tensor):
        pass

    x = _input(path.device).as_subclass(Tagged)
    for name in LAYERS:
        ours, theirs = _pair(name, path.device)
        assert type(theirs(x)) is Tagged
        y = ours(x)
        assert type(y) is Tagged, name
        torch.testing.assert_close(y.as_subclass(Tensor), theirs(x).as_subclass(Tensor))
