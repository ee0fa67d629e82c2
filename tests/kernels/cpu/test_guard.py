"""What surrounds a call: transforms, modes, compilers, threads, forks, and the switches."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

import kernels
from kernels import aten, cpu
from kernels.cpu import native

ROOT = Path(kernels.__file__).parent.parent


def block(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Every kind of kernel in one function."""
    y = cpu.conv2d_relu_pool2d(x, w, b, padding=1)
    y = cpu.conv2d_relu(y, torch.ones(8, 1, 3, 3, dtype=x.dtype) / 9, None, padding=1, groups=8)
    pooled = cpu.max_pool2d(y, 2)
    assert isinstance(pooled, Tensor)
    return cpu.avg_pool2d(pooled, 3, 2, 1)


def torchs(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """The same by torch's operators."""
    y = aten.conv2d_relu_pool2d(x, w, b, padding=1)
    y = aten.conv2d_relu(y, torch.ones(8, 1, 3, 3, dtype=x.dtype) / 9, None, padding=1, groups=8)
    return F.avg_pool2d(F.max_pool2d(y, 2), 3, 2, 1)


@pytest.fixture
def tensors(compiled: native.Kernels) -> tuple[Tensor, Tensor, Tensor]:
    """Input, weight, bias, large enough for every kernel."""
    x, w, b = torch.randn(4, 3, 64, 64), torch.randn(8, 3, 3, 3) / 5, torch.randn(8)
    assert cpu.describe("conv2d_relu_pool2d", x, w, b, padding=1).tier == "compiled"
    return x, w, b


def test_transforms(tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    x, w, b = tensors
    for transform in (
        lambda f: torch.func.grad(lambda w: (f(x, w, b) ** 2).sum())(w),
        lambda f: torch.func.vmap(lambda x: f(x[None], w, b))(x),
        lambda f: torch.func.vmap(torch.func.grad(lambda w, x: (f(x[None], w, b) ** 2).sum()), (None, 0))(w, x),
        lambda f: torch.func.jvp(lambda w: f(x, w, b), (w,), (torch.ones_like(w),))[1],
        lambda f: torch.autograd.functional.vjp(lambda w: f(x, w, b), w, torch.ones(4, 8, 8, 8))[1],
    ):
        torch.testing.assert_close(transform(block), transform(torchs), rtol=1e-4, atol=1e-4)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        tangents = [forward_ad.unpack_dual(f(dual, w, b)).tangent for f in (block, torchs)]
        torch.testing.assert_close(*tangents, rtol=1e-4, atol=1e-4)


def test_batched_gradients_and_checkpoint(tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    x, w, b = tensors
    w.requires_grad_()
    g = torch.randn(3, 4, 8, 8, 8)
    ours, theirs = (torch.autograd.grad(f(x, w, b), w, g, is_grads_batched=True)[0] for f in (block, torchs))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
    plain = torch.autograd.grad(block(x, w, b).sum(), w)[0]
    for reentrant in (False, True):
        y: Any = checkpoint(block, x, w, b, use_reentrant=reentrant)
        if not reentrant:
            torch.testing.assert_close(torch.autograd.grad(y.sum(), w)[0], plain)


def test_in_place_changes_between_forward_and_backward_raise(tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    x, w, b = tensors
    w.requires_grad_()
    y = cpu.conv2d_relu_pool2d(x, w, b, padding=1)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_meta_fake_autocast_export_and_compile(tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    x, w, b = tensors
    want = torchs(x, w, b)
    assert aten.conv2d_relu_pool2d(*(t.to("meta") for t in tensors), padding=1).is_meta
    assert cpu.conv2d_relu_pool2d(*(t.to("meta") for t in tensors), padding=1).is_meta
    with FakeTensorMode() as mode:
        assert block(*(mode.from_tensor(t) for t in tensors)).shape == want.shape
    with torch.autocast("cpu", torch.bfloat16):
        assert cpu.conv2d_relu(x, w, b).dtype is torch.bfloat16
    graph = torch.export.export(Block(), (x, w, b)).module()
    torch.testing.assert_close(graph(x, w, b), want, rtol=1e-4, atol=1e-4)
    compiled: Any = torch.compile(block, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, w, b), want, rtol=1e-4, atol=1e-4)


class Block(torch.nn.Module):
    """block as a module, which torch.export asks for."""

    def forward(self, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        """block(x, w, b)."""
        return block(x, w, b)


def test_subclasses_negated_views_and_other_memory(tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    class Named(Tensor):
        """A subclass that must survive."""

    x, w, b = tensors
    assert isinstance(cpu.max_pool2d(x.as_subclass(Named), 2), Named)
    assert isinstance(cpu.conv2d_relu_pool2d(x, w.as_subclass(Named), b), Named)
    views = (torch._neg_view(x), x.flip(3), x[:, :, ::2, ::2], x.permute(0, 1, 3, 2), x.to_sparse().to_dense())
    for view in views:
        torch.testing.assert_close(block(view, w, b), torchs(view, w, b), rtol=1e-4, atol=1e-4)
    offset = torch.randn(4 * 3 * 64 * 64 + 1)[1:].view(4, 3, 64, 64)
    torch.testing.assert_close(block(offset, w, b), torchs(offset, w, b), rtol=1e-4, atol=1e-4)


def test_eight_threads_at_once(tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    _, w, b = tensors
    inputs = [torch.randn(2, 3, 64, 64) for _ in range(8)]
    want = [torchs(x, w, b) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for got, reference in zip(pool.map(lambda x: block(x, w, b), inputs), want, strict=True):
                torch.testing.assert_close(got, reference, rtol=1e-4, atol=1e-4)


def test_the_number_of_threads_changes_no_bit(tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    """Work is divided by planes and images, and no sum crosses the division."""
    x, w, b = torch.randn(16, 3, 64, 64), tensors[1].requires_grad_(), tensors[2]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3, 4):
            torch.set_num_threads(threads)
            y = cpu.max_pool2d(cpu.conv2d_relu_pool2d(x, w, b, padding=1), 3, 2, 1)
            assert isinstance(y, Tensor)
            found.append(y)
            assert cpu.describe("max_pool2d", x, 2).threads == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    torch.testing.assert_close(found[0], F.max_pool2d(aten.conv2d_relu_pool2d(x, w, b, padding=1), 3, 2, 1))


FORK = """
import os, torch, kernels.cpu as cpu
torch.set_num_threads(2)
x, w = torch.randn(64, 3, 64, 64), torch.randn(8, 3, 3, 3)
want = cpu.conv2d_relu_pool2d(x, w)
pid = os.fork()
if pid == 0:
    got = cpu.conv2d_relu_pool2d(x, w)
    torch.set_num_threads(1)  # torch's own operators hang in a forked child on more
    os._exit(0 if torch.equal(got, want) else 1)
assert os.waitpid(pid, 0)[1] == 0
assert torch.equal(cpu.conv2d_relu_pool2d(x, w), want)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_runs_and_does_not_hang(compiled: native.Kernels) -> None:
    run(FORK, "auto")


def run(code: str, choice: str) -> str:
    """Standard output of a fresh interpreter under this choice of kernels."""
    environment = {**os.environ, native.VARIABLE: choice, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


SAY = "import kernels.cpu.native as n; print(n.KERNELS and n.KERNELS.isa, '|', n.REASON)"


def test_the_environment_variable(compiled: native.Kernels) -> None:
    assert run(SAY, "torch").startswith("None | TRITON_CNN_CPU=torch turns")
    assert run(SAY, "baseline").startswith("baseline |")
    with pytest.raises(AssertionError, match="must be one of auto, torch, avx512"):
        run(SAY, "sse")


def test_explain_without_a_build(uncompiled: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native, "DIRECTORY", tmp_path)
    monkeypatch.setattr(native, "CHOICE", "auto")
    found, reason = native._load()
    assert found is None and "not built" in reason
    monkeypatch.setattr(native, "REASON", reason)
    description = cpu.describe("conv2d", torch.randn(1, 3, 8, 8), torch.randn(4, 3, 3, 3))
    assert description.tier == "torch" and "compiler" in str(description)


@pytest.mark.slow
def test_the_package_builds_without_a_compiler(tmp_path: Path) -> None:
    environment = {**os.environ, "CC": "/nowhere/cc", "CXX": "/nowhere/c++"}
    command = [
        sys.executable,
        "setup.py",
        "-q",
        "build",
        "--build-base",
        str(tmp_path / "b"),
        "--build-lib",
        str(tmp_path / "l"),
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "l" / "kernels" / "cpu" / "native.py").exists()
    assert not list((tmp_path / "l").rglob("_native.*"))


def test_a_library_of_other_sources_is_not_used(tmp_path: Path) -> None:
    """A checkout whose C++ changed after the build says so, and runs torch's operators instead of what is gone."""
    shutil.copytree(ROOT / "kernels", tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    if not (tmp_path / "kernels/cpu/_native.so").exists():
        pytest.skip("the compiled kernels are not built here")
    with (tmp_path / "kernels/cpu/csrc/threads.cpp").open("a") as source:
        source.write("// changed\n")
    script = (
        "import torch, kernels; from kernels.cpu import native; assert native.KERNELS is None; print(native.REASON)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_CNN_CPU"} | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "pip install -e ." in done.stdout
