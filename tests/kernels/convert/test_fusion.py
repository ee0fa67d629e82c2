"""Where Conv -> ReLU (-> Pool) runs as one kernel, and where it must not."""

from __future__ import annotations

import copy
import functools
import pickle
import traceback
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kernels
from kernels.convert import chain as chains
from tests.kernels.convert.forwards import APART, FUSED, Base, Branch, Indices, Nested, Statements


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fused calls, in order: "relu", "relu+max", "relu+avg"."""
    calls: list[str] = []
    for name in ("conv2d_relu", "conv2d_relu_pool2d"):
        monkeypatch.setattr(chains, name, functools.partial(_spy, getattr(chains, name), calls))
    return calls


def _spy(function: Any, calls: list[str], *args: Any, **kwargs: Any) -> Tensor:
    calls.append("relu" + (f"+{kwargs['pool']}" if "pool" in kwargs else ""))
    result: Tensor = function(*args, **kwargs)
    return result


def run(model: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor | None]]:
    """The result and all gradients."""
    torch.manual_seed(1)
    model.zero_grad()
    y = model(x)
    if y.requires_grad:
        y.square().sum().backward()
    return y, [None if p.grad is None else p.grad.clone() for p in model.parameters()]


def assert_same(ours: nn.Module, torchs: nn.Module, x: Tensor) -> None:
    a, b = run(ours, x), run(torchs, x)
    torch.testing.assert_close(a[0], b[0])
    for p, q in zip(a[1], b[1], strict=True):
        assert (p is None) == (q is None)
        if p is not None:
            torch.testing.assert_close(p, q)


@pytest.mark.parametrize("cls", [*FUSED, *APART, Indices], ids=lambda cls: cls.__name__)
def test_the_numbers_stay(cls: type[Base]) -> None:
    model, x = cls(), torch.randn(2, 3, 8, 8)
    ours = kernels.convert(model)
    for training in (True, False):
        assert_same(ours.train(training), model.train(training), x)
    assert isinstance(ours, cls) and repr(ours) == repr(model)


@pytest.mark.parametrize("cls", FUSED, ids=lambda cls: cls.__name__)
def test_fused(cls: type[Base], fused: list[str]) -> None:
    ours = kernels.convert(cls())
    ours(torch.randn(1, 3, 8, 8))
    assert fused == FUSED[cls]
    assert kernels.report(ours).count("fused") >= 1
    kernels.convert(cls(), fuse=False)(torch.randn(1, 3, 8, 8))
    kernels.revert(ours)(torch.randn(1, 3, 8, 8))
    assert fused == FUSED[cls]


@pytest.mark.parametrize("cls", APART, ids=lambda cls: cls.__name__)
def test_not_fused(cls: type[Base], fused: list[str]) -> None:
    ours = kernels.convert(cls())
    ours(torch.randn(1, 3, 8, 8))
    assert fused == []


def test_indices_are_pooled_apart(fused: list[str]) -> None:
    kernels.convert(Indices())(torch.randn(1, 3, 8, 8))
    assert fused == ["relu"]


def test_control_flow_is_not_frozen(fused: list[str]) -> None:
    model, x = Branch().eval(), torch.randn(1, 3, 8, 8)
    ours = kernels.convert(model)
    assert (ours(x) < 0).any() and fused == []
    ours.flag = True
    assert (ours(x) >= 0).all() and fused == ["relu"]
    ours.flag = False
    ours.conv = nn.Conv2d(3, 3, 1)
    assert_same(ours, copy.deepcopy(ours), x)


HOOKED = ("conv", "relu", "pool")


@pytest.mark.parametrize("hooked", HOOKED)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_hook_sees_what_it_saw(hooked: str, when: str, fused: list[str]) -> None:
    model, x = Nested(), torch.randn(1, 3, 8, 8)
    seen: dict[nn.Module, list[Tensor]] = {}

    def note(layer: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
        seen.setdefault(layer, []).extend([*given, result])

    model.relu_module = model.relu  # type: ignore[assignment]
    network = nn.Sequential(model.conv, model.relu, model.pool)
    index = HOOKED.index(hooked)
    if when == "before":
        network[index].register_forward_hook(note)
    ours = kernels.convert(network)
    if when == "after":
        network[index].register_forward_hook(note)
        handle = ours[index].register_forward_hook(note)
    torch.testing.assert_close(ours(x), network(x))
    for a, b in zip(seen[ours[index]], seen[network[index]], strict=True):
        torch.testing.assert_close(a, b)
    assert fused == (["relu"] if hooked == "pool" else [])
    if when == "after":
        handle.remove()
        ours(x)
        assert fused[-1] == "relu+max"


def test_a_global_hook_is_served(fused: list[str]) -> None:
    ours = kernels.convert(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()))
    names: list[str] = []
    handle = nn.modules.module.register_module_forward_hook(lambda m, i, o: names.append(type(m).__name__))
    ours(torch.ones(1, 1, 2, 2))
    handle.remove()
    assert names == ["Conv2d", "ReLU", "Sequential"] and fused == []


def test_a_sequential_can_be_sliced_indexed_and_changed(fused: list[str]) -> None:
    model, x = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2)), torch.randn(1, 1, 6, 6)
    ours = kernels.convert(model)
    for end in (1, 2, 3):
        torch.testing.assert_close(ours[:end](x), model[:end](x))
    torch.testing.assert_close(ours[0](x), model[0](x))
    assert fused == ["relu", "relu+max"]
    ours[1] = nn.Tanh()
    torch.testing.assert_close(ours(x), nn.MaxPool2d(2)(torch.tanh(model[0](x))))
    ours.append(nn.Flatten())
    assert ours(x).dim() == 2 and repr(ours).startswith("Sequential(")


def test_copies_and_pickles_are_fused_again(fused: list[str]) -> None:
    x = torch.randn(1, 3, 8, 8)
    for model in (Statements(), nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())):
        ours = kernels.convert(model)
        want = ours(x)
        for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), kernels.convert(copy.copy(ours))):
            fused.clear()
            assert torch.equal(other(x), want) and fused
            assert type(other) is type(ours)
        kernels.revert(ours, inplace=True)
        assert type(ours) is type(model) and type(pickle.loads(pickle.dumps(ours))) is type(model)


def test_a_traceback_names_the_line_of_the_source() -> None:
    ours = kernels.convert(Statements())
    with pytest.raises(RuntimeError) as caught:
        ours(torch.randn(1, 7, 8, 8))
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert any(
        f.filename.endswith("forwards.py") and f.line and "F.avg_pool2d(x, kernel_size=self.size)" in f.line
        for f in frames
    )


def test_code_without_a_source_is_converted_layer_by_layer(fused: list[str]) -> None:
    scope: dict[str, Any] = {"Base": Base, "F": F, "__name__": __name__}
    exec("class Written(Base):\n    def forward(self, x):\n        return F.relu(self.conv(x))\n", scope)
    model, x = scope["Written"](), torch.randn(1, 3, 8, 8)
    ours = kernels.convert(model)
    torch.testing.assert_close(ours(x), model(x))
    assert fused == [] and type(ours.conv) is kernels.Conv2d
    assert "the source of Written.forward is not available" in str(kernels.report(ours))


def test_a_changed_source_is_not_believed(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, fused: list[str]) -> None:
    import importlib
    import linecache

    text = "from tests.kernels.convert.forwards import Base\nimport torch.nn.functional as F\n\n\n"
    text += "class Written(Base):\n    def forward(self, x):\n        return F.{}(self.conv(x))\n"
    file = tmp_path / "written_here.py"
    file.write_text(text.format("silu"))
    monkeypatch.syspath_prepend(tmp_path)
    model, x = importlib.import_module("written_here").Written(), torch.randn(1, 3, 8, 8)
    file.write_text(text.format("relu"))
    linecache.checkcache()
    ours = kernels.convert(model)
    torch.testing.assert_close(ours(x), F.silu(model.conv(x)))
    assert fused == [] and "does not run the code of its source file" in str(kernels.report(ours))


def test_the_triton_path_fuses_too() -> None:
    model, x = Statements(), torch.randn(1, 3, 8, 8)
    ours = kernels.convert(model)
    with kernels.backend("triton"):
        assert_same(ours, model, x)


def test_torch_fx_traces_a_converted_model() -> None:
    model, x = Statements(), torch.randn(1, 3, 8, 8)
    traced = torch.fx.symbolic_trace(kernels.convert(model))
    torch.testing.assert_close(traced(x), model(x))
