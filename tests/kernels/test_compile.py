"""torch.compile without a graph break, torch.export and back."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import kernels
from tests.compare import assert_same_form
from tests.kernels.paths import CPU_PATH, Path
from tests.kernels.problems import STANDARD, Problem, run


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch._dynamo.reset()


class Counter:
    """A compiler backend that counts the graphs it gets and runs them by AOT autograd."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, module: Any, inputs: Any) -> Callable[..., Any]:
        self.graphs += 1
        from torch._dynamo.backends.debugging import aot_eager

        return aot_eager(module, inputs)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_fullgraph_forward_and_backward(path: Path, problem: Problem, channels_last: bool) -> None:
    tensors = problem.tensors(path.device, channels_last=channels_last)
    compiled = torch.compile(problem.ours, backend="aot_eager", fullgraph=True)
    for got, want in zip(run(compiled, tensors), run(problem.ours, tensors), strict=True):
        torch.testing.assert_close(got, want)
        if want is not None:
            assert_same_form(got, want, loose=True)


@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_no_grad_and_inference(path: Path, problem: Problem) -> None:
    tensors = problem.tensors(path.device)
    compiled = torch.compile(problem.ours, backend="aot_eager", fullgraph=True)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(compiled(*tensors), problem.ours(*tensors))


@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_dynamic_batch_compiles_once(path: Path, problem: Problem) -> None:
    counter = Counter()
    compiled = torch.compile(problem.ours, backend=counter, fullgraph=True)
    tensors = problem.tensors(path.device)

    def marked(x: Tensor, *rest: Tensor) -> Tensor:
        torch._dynamo.mark_dynamic(x, 0)  # raises where a size is taken for a constant
        return compiled(x, *rest)

    for batch in (2, 3, 5):
        x = torch.randn(batch, *tensors[0].shape[1:], device=path.device)
        for got, want in zip(run(marked, [x, *tensors[1:]]), run(problem.ours, [x, *tensors[1:]]), strict=True):
            torch.testing.assert_close(got, want)
    assert counter.graphs == 1


def test_dynamic_rows_and_columns(path: Path) -> None:
    counter, torchs = Counter(), Counter()
    w = torch.randn(4, 3, 3, 3, device=path.device)

    def network(x: Tensor) -> Tensor:
        y = kernels.max_pool2d(kernels.conv2d(x, w, padding="same"), 3, 2, 1)
        return kernels.avg_pool2d(y, 2, ceil_mode=True)

    def plain(x: Tensor) -> Tensor:
        return F.avg_pool2d(F.max_pool2d(F.conv2d(x, w, padding="same"), 3, 2, 1), 2, ceil_mode=True)

    compiled = torch.compile(network, backend=counter, fullgraph=True, dynamic=True)
    compiled_plain = torch.compile(plain, backend=torchs, fullgraph=True, dynamic=True)
    for size in ((8, 9), (10, 12), (13, 11)):
        x = torch.randn(2, 3, *size, device=path.device)
        torch.testing.assert_close(compiled(x), network(x))
        compiled_plain(x)
    # Before torch 2.13 its own max_pool2d, which the CPU path compiles to, asked whether sizes are odd.
    assert counter.graphs == (torchs.graphs if path is CPU_PATH else 1)


def _network(layers: Any) -> nn.Module:
    """Every layer of the package, small."""
    return nn.Sequential(
        layers.Conv2d(1, 3, 3, padding=1),
        layers.ConvReLU2d(3, 4, 3, padding=1),
        layers.MaxPool2d(2),
        layers.ConvReLUPool2d(4, 4, 3, padding=1),
        layers.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


@pytest.mark.slow
def test_inductor_trains_a_network(path: Path) -> None:
    model = _network(kernels).to(path.device)
    x = torch.randn(2, 1, 8, 8, device=path.device)
    names = [name for name, _ in model.named_parameters()]

    def step(module: Callable[[Tensor], Tensor]) -> list[Tensor]:
        model.zero_grad()
        module(x).square().sum().backward()
        return [p.grad.clone() for p in model.parameters()]

    want = step(model)
    for name, got, expected in zip(names, step(torch.compile(model, fullgraph=True)), want, strict=True):
        torch.testing.assert_close(got, expected, msg=name)


def test_compiled_autograd(path: Path) -> None:
    model = _network(kernels).to(path.device)
    x = torch.randn(2, 1, 8, 8, device=path.device)
    model(x).sum().backward()
    want = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    loss = model(x).sum()
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="aot_eager", fullgraph=True)):
        loss.backward()
    for p, expected in zip(model.parameters(), want, strict=True):
        torch.testing.assert_close(p.grad, expected)


def test_the_backend_is_part_of_what_is_compiled(triton: Path) -> None:
    """Changing it compiles anew and does not go on with the other path."""
    counter = Counter()
    compiled = torch.compile(lambda x: kernels.max_pool2d(x, 2), backend=counter, fullgraph=True)
    x = torch.randn(1, 2, 4, 4, device=triton.device)
    first = compiled(x)
    with kernels.backend("torch"):
        assert torch.equal(compiled(x), first)
    assert counter.graphs == 2


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
def test_export_round_trip(path: Path, strict: bool, dynamic: bool) -> None:
    model = _network(kernels).to(path.device).eval()
    x = torch.randn(3, 1, 8, 8, device=path.device)
    shapes = ({0: torch.export.Dim("batch", min=2, max=64)},) if dynamic else None
    program = torch.export.export(model, (x,), dynamic_shapes=shapes, strict=strict)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    torch.testing.assert_close(loaded(x), model(x))
    if dynamic:
        more = torch.randn(5, 1, 8, 8, device=path.device)
        torch.testing.assert_close(loaded(more), model(more))
    decomposed = program.run_decompositions()
    torch.testing.assert_close(decomposed.module()(x), model(x))


def test_export_keeps_our_operators(triton: Path) -> None:
    program = torch.export.export(_network(kernels).to(triton.device), (torch.randn(2, 1, 8, 8, device=triton.device),))
    targets = [str(node.target) for node in program.run_decompositions().graph.nodes if node.op == "call_function"]
    ours = [t for t in targets if t.startswith("triton_cnn.")]
    assert ours == [
        f"triton_cnn.{n}.default" for n in ("conv2d", "conv2d", "max_pool2d", "conv2d_relu_pool2d", "avg_pool2d")
    ]
