"""What only a card can show: the largest batches, the same bits every time, CUDA graphs, one launch for one image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bench.launches import launches_of
from bench.providers import Contender
from kernels import backend
from kernels.lenet import lenet, lenet_loss, plan
from tests.kernels.lenet.networks import Network, by_torch, digits, relative

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA: the interpreter runs one program at a time"
)
LARGE = Network("large", 65537)


def many(n: int) -> torch.Tensor:
    """n digits, the same ones again and again."""
    images = digits()[0].cuda()
    return images[torch.arange(n, device="cuda") % len(images)]


@pytest.mark.parametrize("n", [1, 31, 33, 1000, 65537])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_batches(n: int, dtype: torch.dtype) -> None:
    parameters, x = LARGE.parameters("cuda", dtype), many(n).to(dtype)
    exact = [p.detach().double().requires_grad_() for p in parameters]
    want, theirs = by_torch(x.double(), exact, LARGE), by_torch(x, parameters, LARGE)
    with backend("triton"):
        y = lenet(x, parameters, arithmetic="float32" if dtype == torch.float32 else None)
    floor = 1e-5 if dtype == torch.float32 else torch.finfo(dtype).eps
    assert relative(y, want) <= 2 * relative(theirs, want) + floor
    dy = torch.randn_like(y) / n
    torchs = torch.autograd.grad(theirs, parameters, dy)
    wanted = torch.autograd.grad(want, exact, dy.double())
    for ours, layer, exactly in zip(torch.autograd.grad(y, parameters, dy), torchs, wanted, strict=True):
        assert relative(ours, exactly) <= 2 * relative(layer, exactly) + 10 * floor


def test_the_same_bits_every_time() -> None:
    parameters, x = LARGE.parameters("cuda"), many(4097)
    with backend("triton"):
        runs = [torch.autograd.grad(lenet(x, parameters).sum(), parameters) for _ in range(3)]
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


@pytest.mark.parametrize("arithmetic", ["float32", "tf32", "float16", "bfloat16"])
@pytest.mark.parametrize("images", [plan.LATENCY, plan.MIDDLE, plan.THROUGHPUT])
def test_an_image_scores_the_same_wherever_it_stands(images: int, arithmetic: str) -> None:
    """A barrier too few lets one layer read what the last has not written yet: then places and rounds differ."""
    parameters, x = LARGE.parameters("cuda"), many(20_000)
    order = torch.randperm(len(x), device="cuda")
    with backend("triton"), torch.no_grad(), plan.force_images(images):
        first = lenet(x, parameters, arithmetic=arithmetic)
        for _ in range(3):
            assert torch.equal(lenet(x[order], parameters, arithmetic=arithmetic), first[order])


@pytest.mark.parametrize("n", [1, 64, 5000])
def test_a_captured_step_follows_its_weights(n: int) -> None:
    """The graph is replayed after the weights have changed in place, and reads the new ones."""
    network = replace(LARGE, n=n)
    parameters, x, labels = network.parameters("cuda"), many(n), network.labels("cuda")

    def step() -> list[torch.Tensor]:
        return list(torch.autograd.grad(lenet_loss(x, labels, parameters)[0].mean(), parameters))

    with backend("triton"):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = step()
        with torch.no_grad():
            for p in parameters:
                p.mul_(1.5)
        graph.replay()
        want = step()
    assert all(torch.equal(a, b) for a, b in zip(captured, want, strict=True))


@pytest.mark.parametrize("n, launches", [(1, 1), (64, 1), (1000, 2)])
def test_launches_of_inference(n: int, launches: int) -> None:
    torch.use_deterministic_algorithms(False)  # else torch fills new memory, by kernels of its own
    parameters, x = LARGE.parameters("cuda"), many(n)
    with backend("triton"), torch.inference_mode():
        found = launches_of(Contender("ours", "nchw", "", lambda i: (lenet(x, parameters),)))
    assert found.kernels == launches, found
