"""Replays on a card: the second to fifth call, by Triton's private way, against torch; streams, threads, graphs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import kernels
from kernels.backend import backend
from kernels.lenet import layers, lenet
from tests.kernels.lenet.networks import Network

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
CALLS = 5
# Small (latency), packed from NCHW, by TMA, depthwise: input, weight, groups, channels_last.
SHAPES = [
    ((2, 16, 9, 9), (16, 16, 3, 3), 1, True),
    ((2, 64, 9, 9), (32, 64, 3, 3), 1, False),
    ((128, 256, 7, 7), (256, 256, 3, 3), 1, True),
    ((4, 32, 15, 15), (32, 1, 3, 3), 32, True),
]


@pytest.fixture(autouse=True)
def on_the_triton_path() -> Iterator[None]:
    torch.use_deterministic_algorithms(False)  # new memory from the quick allocator, as a user has it
    with backend("triton"):
        yield


def draw(x: tuple[int, ...], w: tuple[int, ...], channels_last: bool, moved: bool = False) -> list[Tensor]:
    """Small integers, of which every sum is exact; `moved`: beside a multiple of 16 bytes."""
    found = []
    for shape in (x, w, (w[0],)):
        t = torch.randint(-2, 3, shape, device="cuda").half()
        if channels_last and len(shape) == 4:
            t = t.contiguous(memory_format=torch.channels_last)
        if moved:
            base = torch.zeros(t.numel() + 1, dtype=t.dtype, device="cuda")
            t = base.as_strided(t.shape, t.stride(), 1).copy_(t)
        found.append(t.requires_grad_())
    return found


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_every_call_reads_its_own_data(shapes: tuple[tuple[int, ...], tuple[int, ...], int, bool]) -> None:
    """Aligned and not, in turns: each is a kernel of its own."""
    x_shape, w_shape, groups, channels_last = shapes
    for i in range(2 * CALLS):
        tensors = draw(x_shape, w_shape, channels_last, moved=i % 2 == 1)
        y = kernels.conv2d(*tensors, padding=1, groups=groups)
        want = F.conv2d(*(t.double() for t in tensors), padding=1, groups=groups)
        dy = torch.randint(-1, 2, y.shape, device="cuda").to(y)
        got = torch.autograd.grad(y, tensors, dy)
        exact = torch.autograd.grad(want, tensors, dy.double())
        torch.testing.assert_close(y.double(), want, rtol=2e-3, atol=1)
        for a, b in zip(got, exact, strict=True):
            torch.testing.assert_close(a.double(), b.double(), rtol=2e-3, atol=1)


def test_a_call_runs_on_the_stream_of_its_caller() -> None:
    """A kernel on another stream would not wait for the pause before its input is written."""
    x = torch.zeros(8, 8, 64, 64, device="cuda")
    kernels.max_pool2d(x, 2)
    kernels.max_pool2d(x, 2)
    for i in range(1, CALLS):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(20_000_000)
            x.fill_(i)
            y = kernels.max_pool2d(x, 2)
        stream.synchronize()
        assert torch.equal(y, torch.full_like(y, i))


def test_threads_replay_one_program() -> None:
    x = torch.randn(8, 16, 16, 16, device="cuda")
    w = torch.randn(16, 16, 3, 3, device="cuda")
    want = kernels.conv2d(x, w)
    torch.cuda.synchronize()

    def work(scale: float) -> bool:
        with backend("triton"), torch.cuda.stream(torch.cuda.Stream()):
            results = [kernels.conv2d(x * scale, w) for _ in range(50)]
            torch.cuda.current_stream().synchronize()
        return all(torch.equal(y, results[0]) for y in results) and torch.equal(results[0] / scale, want)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, [1.0, 2.0, 4.0, 8.0] * 4))


def test_a_graph_captures_replayed_calls() -> None:
    """Its launches, its descriptors, its memory: replayed on data that is written later."""
    x, w, b = draw((128, 128, 7, 7), (128, 128, 3, 3), True)
    side = torch.cuda.Stream()
    with torch.no_grad(), torch.cuda.stream(side):
        for _ in range(CALLS):
            kernels.conv2d_relu(x, w, b, padding=1)
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        y = kernels.conv2d_relu(x, w, b, padding=1)
    with torch.no_grad():
        x.copy_(torch.randint(-2, 3, x.shape, device="cuda"))
    graph.replay()
    want = F.conv2d(x.double(), w.double(), b.double(), padding=1).relu()
    torch.testing.assert_close(y.double(), want, rtol=2e-3, atol=1)


def test_one_image_again_and_again() -> None:
    network = Network("full", 1)
    parameters = [p.detach() for p in network.parameters("cuda")]
    for _ in range(CALLS):
        x = torch.randn(1, 1, 28, 28, device="cuda")
        got = lenet(x, parameters, arithmetic="float32")
        want = layers.lenet(x.double(), [p.double() for p in parameters], 2, False, False)
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two cards")
def test_the_device_of_the_tensors_counts() -> None:
    for device in ("cuda:0", "cuda:1") * CALLS:
        x = torch.randn(2, 3, 8, 8, device=device)
        assert torch.equal(kernels.max_pool2d(x, 2), F.max_pool2d(x, 2))


def test_a_profiler_s_hook_hears_replayed_launches() -> None:
    knobs = pytest.importorskip("triton").knobs
    x, heard = torch.randn(2, 3, 8, 8, device="cuda"), []
    kernels.max_pool2d(x, 2)

    def hear(metadata: object) -> None:
        heard.append(metadata)

    knobs.runtime.launch_enter_hook.add(hear)
    try:
        for _ in range(3):
            kernels.max_pool2d(x, 2)
    finally:
        knobs.runtime.launch_enter_hook.remove(hear)
    assert len(heard) == 3
