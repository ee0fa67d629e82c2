"""backend("auto") on a card with a table: work that torch was measured faster at goes to torch, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import kernels
from kernels import aten, backend, explain
from kernels.backend import ATEN, TRITON, current_backend
from kernels.common.device import H100, Card, assume_card
from kernels.common.layout import is_channels_last
from kernels.common.precision import precision_of
from kernels.conv2d import by_torch
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.cpu import front
from kernels.pool2d.geometry import Pool2dGeometry
from kernels.tuned.bucket import Bucket
from kernels.tuned.router import MARGIN, PASSES
from kernels.tuned.table import Entry, Table, Times, slug, tables_in, write
from tests.compare import assert_as_good
from tests.kernels.paths import TRITON_PATH, why_no_triton

DEVICE = TRITON_PATH.device
CARD = Card(H100.shared, True, "Synthetic H100")
G = Conv2dGeometry(2, 3, 6, 7, 4, 3, 3, (1, 1), (1, 1, 1, 1), (1, 1), 1)
POOL = Pool2dGeometry((2, 2), (2, 2), (0, 0), (1, 1), False)


@pytest.fixture(autouse=True)
def routing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The CPU plays the card: "auto" takes the Triton path, nothing asks for deterministic algorithms, and the CPU path
    knows no call that another file has made."""
    reason = why_no_triton()
    if reason is not None:
        pytest.skip(reason)

    def path(x: Any) -> str:
        return ATEN if current_backend() == "torch" else TRITON

    for place in ("kernels.conv2d.op", "kernels.pool2d.op", "kernels.explain.call", "kernels.conv_transpose2d.op"):
        monkeypatch.setattr(import_module(place), "path", path)
    for memory in (front.conv2d, front.conv2d_relu, front.conv2d_relu_pool2d, front.max_pool2d, front.avg_pool2d):
        memory.forget()
    torch.use_deterministic_algorithms(False)
    with assume_card(CARD):
        yield


@pytest.fixture
def by_torchs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What torch was asked to do."""
    found: list[str] = []

    def watch(place: Any, name: str) -> None:
        function = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *args, **kwargs: (found.append(name), function(*args, **kwargs))[1])

    for name in ("fprop", "dgrad", "wgrad"):
        watch(by_torch, name)
    for name in ("max_pool2d", "avg_pool2d", "conv2d_relu_pool2d"):
        watch(aten, name)
    return found


def save(folder: Any, **ratios: float) -> Any:
    """A table in which torch was `ratio` times faster at each operation, in both layouts."""
    entries: dict[Bucket, Entry] = {}
    for name, ratio in ratios.items():
        operation = name.replace("_training", " training")
        which = PASSES[operation]
        precision = precision_of(4)
        pools = which in ("max_pool", "avg_pool")
        bucket = Bucket.of_pool(which, (2, 3, 6, 8), POOL, precision) if pools else Bucket.of(which, G, precision)
        times = entries[bucket].times if bucket in entries else {"nchw": {}, "nhwc": {}}
        for layout in times.values():
            layout[operation] = Times(10.0 * ratio, 10.0)
        entries[bucket] = Entry(None, times)
    write(folder / f"{slug(CARD.name)}.json", Table(CARD.name, entries))
    return tables_in(folder)


def tensors(channels_last: bool = False) -> list[Tensor]:
    form = torch.channels_last if channels_last else torch.contiguous_format
    shapes = ((2, 3, 6, 7), (4, 3, 3, 3))
    made = [torch.randn(shape, device=DEVICE).contiguous(memory_format=form).requires_grad_() for shape in shapes]
    return [*made, torch.randn(4, requires_grad=True, device=DEVICE)]


def check(function: Any, torchs: Any, given: list[Tensor], *more: Any, **options: Any) -> None:
    """Values, gradients and layout are torch's, whoever computed them."""
    y = function(*given, *more, **options)
    dy = torch.randn_like(y)
    got = [y, *torch.autograd.grad(y, given, dy)]
    exact = [t.detach().double().requires_grad_() for t in given]
    want = [torchs(*exact, *more, **options)]
    want += torch.autograd.grad(want[0], exact, dy.double())
    plain = [t.detach().requires_grad_() for t in given]
    usual = [torchs(*plain, *more, **options)]
    usual += torch.autograd.grad(usual[0], plain, dy)
    for a, b, c in zip(got, usual, want, strict=True):
        assert_as_good(a, b, c)
        assert a.stride() == b.stride() and a.is_contiguous() == (not is_channels_last(a))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "faster", [("conv2d",), ("conv2d_dgrad",), ("conv2d_wgrad",), ("conv2d", "conv2d_dgrad", "conv2d_wgrad"), ()]
)
def test_each_pass_goes_where_it_was_faster(
    tmp_path: Any, by_torchs: list[str], faster: tuple[str, ...], channels_last: bool
) -> None:
    ratios = {name: 1.31 if name in faster else 0.8 for name in ("conv2d", "conv2d_dgrad", "conv2d_wgrad")}
    with save(tmp_path, **ratios):
        check(kernels.conv2d, F.conv2d, tensors(channels_last), padding=1)
    assert sorted(by_torchs) == sorted(PASSES[name] for name in faster)


def test_relu_has_its_own_times(tmp_path: Any, by_torchs: list[str]) -> None:
    with save(tmp_path, conv2d=1.31, conv2d_relu=0.9):
        check(kernels.conv2d_relu, lambda *a, **o: F.conv2d(*a, **o).relu(), tensors(), padding=1)
        assert by_torchs == []
    with save(tmp_path, conv2d=0.9, conv2d_relu=1.31):
        check(kernels.conv2d_relu, lambda *a, **o: F.conv2d(*a, **o).relu(), tensors(), padding=1)
    assert by_torchs == ["fprop"]


def test_under_triton_never(tmp_path: Any, by_torchs: list[str]) -> None:
    """Not even in a backward pass that runs when the block is over."""
    x, w, b = tensors()
    with save(tmp_path, conv2d=2.0, conv2d_dgrad=2.0, conv2d_wgrad=2.0):
        with backend("triton"):
            y = kernels.conv2d(x, w, b, padding=1)
        y.sum().backward()
        assert by_torchs == []
        kernels.conv2d(x, w, b, padding=1).sum().backward()
    assert by_torchs == ["fprop", "dgrad", "wgrad"]


@pytest.mark.parametrize("ratio, goes", [(MARGIN - 0.001, False), (MARGIN + 0.001, True)])
def test_a_margin_stands_between_them(tmp_path: Any, by_torchs: list[str], ratio: float, goes: bool) -> None:
    with save(tmp_path, conv2d=ratio), torch.no_grad():
        kernels.conv2d(*tensors(), padding=1)
    assert bool(by_torchs) == goes


def test_only_the_measured_bucket_is_sent_away(tmp_path: Any, by_torchs: list[str]) -> None:
    x, w, b = tensors()
    with save(tmp_path, conv2d=2.0), torch.no_grad():
        kernels.conv2d(x[:1], w, b, padding=1)
        kernels.conv2d(x, w, b, padding=1, stride=2)
        kernels.conv2d(x.double(), w.double(), b.double(), padding=1)
        kernels.conv2d(x, torch.randn(4, 3, 2, 2, device=DEVICE), b, padding="same")
        assert by_torchs == []
        with assume_card(H100):
            kernels.conv2d(x, w, b, padding=1)
        assert by_torchs == [], "a card without a table"
        kernels.conv2d(x, w, b, padding="same")
    assert by_torchs == ["fprop"]


def test_deterministic_algorithms_stay_here(tmp_path: Any, by_torchs: list[str]) -> None:
    with save(tmp_path, conv2d=2.0, max_pool2d=2.0), torch.no_grad():
        torch.use_deterministic_algorithms(True)
        kernels.conv2d(*tensors(), padding=1)
        torch.use_deterministic_algorithms(False)
        with torch.backends.cudnn.flags(deterministic=True):
            kernels.conv2d(*tensors(), padding=1)
            kernels.max_pool2d(torch.randn(2, 3, 6, 8, device=DEVICE), 2)
    assert by_torchs == []


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_pools(tmp_path: Any, by_torchs: list[str], name: str) -> None:
    x = torch.randn(2, 3, 6, 8, requires_grad=True, device=DEVICE)
    ours, torchs = getattr(kernels, name), getattr(F, name)
    with save(tmp_path, **{name: 2.0}):
        check(ours, torchs, [x], 2)
        assert by_torchs == [], "forward and backward together were not slower"
        with torch.no_grad():
            assert torch.equal(ours(x, 2), torchs(x, 2))
    with save(tmp_path, **{f"{name}_training": 2.0}):
        check(ours, torchs, [x], 2)
    assert by_torchs == [name, name]


def test_the_fused_block(tmp_path: Any, by_torchs: list[str]) -> None:
    def torchs(*given: Any, **options: Any) -> Tensor:
        return F.max_pool2d(F.conv2d(*given, **options).relu(), 2)

    with save(tmp_path, conv2d_relu_pool2d_training=2.0):
        check(kernels.conv2d_relu_pool2d, torchs, tensors(), padding=1)
        with torch.no_grad():
            kernels.conv2d_relu_pool2d(*tensors(), padding=1)
    assert by_torchs == ["conv2d_relu_pool2d"]


def test_a_transposed_convolution_is_a_dgrad(tmp_path: Any, by_torchs: list[str]) -> None:
    dy, w = torch.randn(2, 4, 6, 7, device=DEVICE), torch.randn(4, 3, 3, 3, device=DEVICE)
    with save(tmp_path, conv2d_dgrad=2.0):
        y = kernels.conv_transpose2d(dy, w, padding=1)
    assert by_torchs == ["dgrad"]
    torch.testing.assert_close(y, F.conv_transpose2d(dy, w, padding=1))


def test_explain_says_where_and_why(tmp_path: Any, by_torchs: list[str]) -> None:
    x, w, b = tensors()
    with save(tmp_path, conv2d=1.31):
        found = explain(kernels.conv2d, x, w, b, padding=1)
        assert found.path == "torch" and not found.launches
        assert "torch: measured 1.31x faster on Synthetic H100" in str(found)
        with backend("triton"):
            assert explain(kernels.conv2d, x, w, b, padding=1).path == "triton"
        assert explain(kernels.conv2d_relu, x, w, b, padding=1).path == "triton"
    assert explain(kernels.conv2d, x, w, b, padding=1).path == "triton"
    with save(tmp_path, max_pool2d=1.5):
        assert "measured 1.50x faster" in str(explain(kernels.max_pool2d, torch.randn(2, 3, 6, 8, device=DEVICE), 2))
    assert by_torchs == [], "explaining runs nothing"


def test_a_graph_keeps_the_permission_of_its_making(tmp_path: Any, by_torchs: list[str]) -> None:
    """Compiled or exported under "triton" it never goes to torch, under "auto" it goes where eager calls go."""
    x, w, b = (t.detach() for t in tensors())

    class Net(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return kernels.conv2d(x, w, b, padding=1)

    with save(tmp_path, conv2d=2.0):
        with backend("triton"):
            kept = torch.export.export(Net(), (x,)).module()
        sent = torch.export.export(Net(), (x,)).module()
        by_torchs.clear()
        with torch.no_grad():
            a = kept(x)
            assert by_torchs == []
            with backend("triton"):
                c = sent(x)
            assert by_torchs == ["fprop"]
            again = [torch.compile(Net(), backend="eager", fullgraph=True)(x) for _ in range(2)]
    assert by_torchs == ["fprop"] * 3
    assert torch.equal(c, again[0]) and torch.equal(again[0], again[1])
    torch.testing.assert_close(a, c)
