"""Launches of compiled kernels, with a launcher that starts nothing. test_compiled.py runs this file without
TRITON_INTERPRET."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

import kernels
from bench.ahead import compile_case
from bench.cases.sets import cases
from bench.host import host_rows
from bench.machine_code.compile import CARDS, compile_launch
from bench.nothing import NothingDriver, nothing
from kernels.common.launch import record
from kernels.common.replay.learn import Pass
from kernels.common.signature import apart
from kernels.lenet import lenet
from tests.kernels.replay.doubling import doubled_end

LAST = torch.channels_last
HEAD = 9  # grid, stream, function, metadata, hooks: what comes before a kernel's arguments
KNOWN = triton.__version__.startswith(("3.6.", "3.7."))


@pytest.fixture
def driver() -> Iterator[NothingDriver]:
    torch.use_deterministic_algorithms(False)  # New memory from the quick allocator, as a user has it.
    with nothing() as driver, apart(object()):
        yield driver


def half(*shape: int, form: Any = LAST) -> Tensor:
    t = torch.randn(shape, dtype=torch.float16)
    return t.contiguous(memory_format=form) if len(shape) == 4 else t


def conv_step(x: Tensor, w: Tensor, b: Tensor, dy: Tensor) -> list[Tensor]:
    leaves = [t.detach().requires_grad_() for t in (x, w, b)]
    y = kernels.conv2d_relu(*leaves, padding=1)
    return [y.detach(), *torch.autograd.grad(y, leaves, dy)]


def pool_step(x: Tensor, dy: Tensor) -> list[Tensor]:
    leaf = x.detach().requires_grad_()
    y = kernels.max_pool2d(leaf, 3, 2, 1)
    return [y.detach(), *torch.autograd.grad(y, leaf, dy)]


def convolution(*tensors: Tensor) -> list[Tensor]:
    return [kernels.conv2d(*tensors, padding=1)]


SIZES = [(6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (32, 400), (32,), (16, 32), (16,), (10, 16), (10,)]
CALLS: dict[str, tuple[Callable[..., list[Tensor]], Callable[[], list[Tensor]]]] = {
    "step": (conv_step, lambda: [half(4, 32, 6, 6), half(32, 32, 3, 3), half(32), half(4, 32, 6, 6)]),
    "descriptors": (convolution, lambda: [half(128, 128, 4, 4), half(128, 128, 3, 3)]),
    "packed": (convolution, lambda: [half(2, 32, 5, 5, form=torch.contiguous_format), half(32, 32, 3, 3)]),
    "pool, code": (pool_step, lambda: [half(2, 8, 8, 8), half(2, 8, 4, 4)]),
    "pool, no code": (lambda x: [kernels.max_pool2d(x, 2)], lambda: [half(2, 8, 8, 8)]),
    "network": (
        lambda x, *parameters: [lenet(x, parameters, padding=2)],
        lambda: [torch.randn(1, 1, 28, 28), *map(torch.randn, SIZES)],
    ),
}


def address(value: Any) -> int:
    return int(value.data_ptr()) if hasattr(value, "data_ptr") else int(value)


def same(public: Any, private: Any, addresses: dict[int, int]) -> bool:
    """Whether a launch argument is the same; `addresses` pairs the two calls' pointers."""
    if isinstance(public, TensorDescriptor):
        names = ("shape", "strides", "block_shape", "padding")
        alike = all(getattr(public, name) == getattr(private, name) for name in names)
        alike &= getattr(public, "round_f32_to_tf32", 0) == getattr(private, "round_f32_to_tf32", 0)
        return alike and same(public.base, private.base, addresses)
    if isinstance(public, Tensor):
        return not isinstance(private, Tensor) and addresses.setdefault(address(public), address(private)) == address(
            private
        )
    return type(public) is type(private) and public == private


@pytest.mark.skipif(not KNOWN, reason="another Triton: launches go the public way")
@pytest.mark.parametrize("name", CALLS)
def test_the_private_way_hands_over_what_the_public_way_does(driver: NothingDriver, name: str) -> None:
    """Every pointer in its place: those of the inputs and of the results are known, others must pair up."""
    function, draw = CALLS[name]
    tensors = [draw(), draw()]
    with torch.set_grad_enabled("step" in name or "code" in name):
        driver.seen = public = []
        first = function(*tensors[0])
        driver.seen = private = []
        second = function(*tensors[1])
    assert len(public) == len(private) > 0
    pairs = zip([*tensors[0], *first], [*tensors[1], *second], strict=True)
    addresses = {0: 0} | {a.data_ptr(): b.data_ptr() for a, b in pairs}
    for before, after in zip(public, private, strict=True):
        assert before[:6] == after[:6] and after[6:HEAD] == (None, None, None)
        assert len(before) == len(after)
        for a, b in zip(before[HEAD:], after[HEAD:], strict=True):
            assert same(a, b, addresses), (name, a, b)
    for a, b in zip(first, second, strict=True):
        assert a.stride() == b.stride() and a.dtype == b.dtype and a.shape == b.shape


@pytest.mark.skipif(not KNOWN, reason="another Triton: launches go the public way")
def test_a_view_is_an_offset_from_its_tensor(driver: NothingDriver) -> None:
    learnt = Pass(doubled_end, 1)
    driver.seen = []
    learnt(torch.randn(16))
    x = torch.randn(16)
    y = learnt(x)
    assert driver.seen[1][HEAD : HEAD + 2] == (x.data_ptr() + 32, y.data_ptr())


def is_public(launch: tuple[Any, ...]) -> bool:
    return any(isinstance(value, Tensor) for value in launch)


@pytest.mark.skipif(not KNOWN, reason="another Triton: launches go the public way")
def test_a_listener_hears_every_launch(driver: NothingDriver) -> None:
    """While a hook is set, launches go the public way, which tells it."""
    x = half(2, 8, 8, 8)
    driver.seen = []
    hook = lambda *_: None  # noqa: E731
    for listening in (False, False, True, False):
        if listening:
            triton.knobs.runtime.launch_enter_hook.add(hook)
        kernels.max_pool2d(x, 2)
        triton.knobs.runtime.launch_enter_hook.remove(hook)
    assert [is_public(launch) for launch in driver.seen] == [True, False, True, False]


def test_an_address_beside_a_multiple_of_16(driver: NothingDriver) -> None:
    """Another kernel, compiled for it, the first time by the public way."""
    x = half(2, 8, 8, 8)
    moved = torch.cat([x.new_zeros(1), x.flatten()])[1:].view(2, 8, 8, 8)
    x = x.contiguous()
    driver.seen = []
    for t in (x, x, moved, moved, x):
        kernels.max_pool2d(t, 2)
    assert [is_public(launch) for launch in driver.seen] == [True, not KNOWN, True, not KNOWN, not KNOWN]


def test_a_launcher_of_another_form(driver: NothingDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Triton whose launcher takes other arguments is called by its public interface alone."""
    seen: list[tuple[Any, ...]] = []

    class Launcher:
        def __init__(self, src: Any, metadata: Any) -> None:
            pass

        def __call__(self, *args: Any) -> None:
            seen.append(args)

    monkeypatch.setattr(driver, "launcher_cls", Launcher)
    x = half(2, 8, 8, 12)
    for _ in range(3):
        kernels.avg_pool2d(x, 2)
    assert len(seen) == 3 and all(map(is_public, seen))


@pytest.mark.skipif(not KNOWN, reason="another Triton: launches go the public way")
def test_a_launcher_that_refuses(driver: NothingDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the private call fails for its arguments, the call itself does not."""
    tried: list[bool] = []

    class Launcher:
        def __init__(self, src: Any, metadata: Any) -> None:
            pass

        def __call__(self, gridX: int, gridY: int, gridZ: int, stream: int, function: int, *args: Any) -> None:
            tried.append(is_public(args))
            if not is_public(args):
                raise TypeError("no integers")

    monkeypatch.setattr(driver, "launcher_cls", Launcher)
    x = half(2, 8, 8, 20).float()
    for _ in range(3):
        assert kernels.avg_pool2d(x, 2).shape == (2, 8, 4, 10)
    assert tried == [True, False, True, True]


@pytest.mark.parametrize("clean", [1, 2, 3, 9, 10])
def test_a_program_that_would_spill_is_compiled_again(
    driver: NothingDriver, monkeypatch: pytest.MonkeyPatch, clean: int
) -> None:
    """The first that keeps nothing on the stack is launched, by the public way and after; if none is, the first."""
    loaded: list[str] = []

    def load(name: str, kernel: bytes, shared: int, device: int) -> tuple[int, int, int, int, int]:
        """The handle of a function is its number."""
        loaded.append(name)
        return 0, len(loaded), 80, 0 if len(loaded) >= clean else 2, 1024

    monkeypatch.setattr(driver.utils, "load_binary", load)
    monkeypatch.setattr("kernels.common.launch._known", {})
    x = half(2, 8, 8, 8).float()
    with record() as found:
        kernels.avg_pool2d(x, 2)
    found[0].kernel.device_caches.clear()
    driver.seen = []
    for _ in range(3):
        kernels.avg_pool2d(x, 2)
    assert loaded == [found[0].kernel.__name__] * min(clean, 9)
    assert [launch[4] for launch in driver.seen] == [clean if clean <= 9 else 1] * 3
    assert [is_public(launch) for launch in driver.seen] == [True, not KNOWN, not KNOWN]


@pytest.mark.skipif(not KNOWN, reason="another Triton: launches go the public way")
def test_a_repeated_call_costs_a_fraction_of_the_first(driver: NothingDriver) -> None:
    """Measured 19 times less; a third would already be a lost fast path."""
    low = {row["provider"]: row["low"] for row in host_rows(200, 5, "max_pool2d") if "," not in row["case"]}
    assert low["ours"] * 3 < low["ours, nothing remembered"], low


@pytest.mark.skipif(not KNOWN, reason="another Triton names what it compiles in its own way")
@pytest.mark.parametrize("name", ["descriptors", "packed", "pool, no code"])
def test_a_launch_finds_what_was_compiled_ahead(name: str, driver: NothingDriver, monkeypatch: Any) -> None:
    """Otherwise `bench tune` compiles every plan twice, the second time one after the other."""
    call, operands = CALLS[name]
    hashed: list[str] = []
    usual = triton.compiler.ASTSource.hash

    def heard(source: Any) -> str:
        hashed.append(usual(source))
        return hashed[-1]

    monkeypatch.setattr(triton.compiler.ASTSource, "hash", heard)
    tensors = operands()
    with record() as found, torch.no_grad():
        call(*tensors)
    for each in found:
        compile_launch(each, "sm_90")
    ahead = list(hashed)
    hashed.clear()
    for each in found:
        each.kernel.device_caches.clear()
    with torch.no_grad():
        call(*tensors)
    assert ahead and hashed == ahead


@pytest.mark.skipif(not KNOWN, reason="another Triton names what it compiles in its own way")
def test_the_kernels_of_a_case_are_compiled_ahead(driver: NothingDriver, monkeypatch: Any) -> None:
    """Forward and backward, in both layouts; a case that cannot be compiled says why."""
    pool = next(case for case in cases("smoke") if case.op == "max_pool2d" and case.work == "training")
    compiled: list[Any] = []
    monkeypatch.setattr("bench.ahead.compile_launch", lambda launch, arch: compiled.append((launch.kernel, arch)))
    assert compile_case(pool, CARDS["sm_90"], "sm_90") == ""
    assert len(compiled) == 4 and {arch for _, arch in compiled} == {"sm_90"}
    monkeypatch.setattr("bench.ahead.launches", lambda case, card: 1 / 0)
    assert compile_case(pool, CARDS["sm_90"], "sm_90") == f"{pool.name}: ZeroDivisionError: division by zero"
