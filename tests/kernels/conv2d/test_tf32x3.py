"""float32 by three TF32 products: every tile, what asks for it, and what is not a finite ordinary number."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from triton import jit
from triton import language as tl

import kernels
from kernels import set_float32_products
from kernels.common.device import H100, Card, assume_card
from kernels.common.jit import halves
from kernels.common.launch import Launch, launch, record
from kernels.common.precision import FLOAT32_PRODUCTS, tf32x3_wanted
from kernels.conv2d.common import descriptors
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.choose import force_plan
from kernels.conv2d.plans.cost import LONG_SUM
from kernels.conv2d.plans.plan import PASSES, Plan, rule, shipped
from tests.compare import assert_exact, assert_same_special
from tests.kernels.conv2d.test_tiles import answer
from tests.kernels.paths import Path
from tests.kernels.problems import Problem, conv, make

X3 = Card(H100.shared, True, fast_tf32=True, tf32x3=True)
GATHER_ONLY = Card(166_912, False, fast_tf32=True, tf32x3=True)
PROBLEMS = {
    "gemm": conv("gemm", (2, 32, 5, 6), (32, 32, 2, 2), bias=False),
    "batch": conv("batch", (3, 64, 4, 3), (64, 64, 2, 2), bias=False, padding=1),
    "matmul": conv("matmul", (2, 72, 5, 7), (40, 72, 1, 1), bias=False),
    "rows": conv("rows", (2, 3, 9, 8), (17, 3, 3, 3), bias=False),
}
"""Small ones of the forms that have such tiles; their sums would be too short, so that plans are forced."""


@pytest.fixture(autouse=True)
def wanted_before() -> Iterator[bool]:
    """Three products a test long; whether they were taken before."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    found = tf32x3_wanted()
    with set_float32_products("tf32x3"):
        yield found
    torch.backends.cudnn.allow_tf32 = before


def _geometry(x: tuple[int, ...], w: tuple[int, ...], stride: int = 1, padding: int = 0) -> Conv2dGeometry:
    return Conv2dGeometry(*x, w[0], w[2], w[3], (stride,) * 2, (padding,) * 4, (1, 1), 1)


def _plans() -> list[tuple[str, Plan]]:
    """Every tile of every form, on Hopper and, where they are others, on A100."""
    large = {
        "batch": _geometry((64, 128, 8, 8), (128, 128, 3, 3), padding=1),
        "matmul": _geometry((8, 512, 8, 8), (512, 512, 1, 1)),
        "rows": _geometry((8, 16, 28, 28), (64, 16, 7, 7)),
    }
    found: dict[tuple[str, Plan], None] = {}
    for card in (X3, GATHER_ONLY):
        for g in large.values():
            found |= {(w, p): None for w in PASSES for p in shipped(w, g, 4, card) if p.tf32x3 and p.tile is not None}
    return list(found)


def _named(value: object) -> str:
    if isinstance(value, Plan):
        tile = value.block
        return f"{value.algorithm}-{tile.block_m}x{tile.block_n}-{tile.num_warps}"
    return str(value)


def _tf32x3(launches: list[Launch]) -> list[str]:
    """The kernels that multiply so."""
    return [each.kernel.__name__ for each in launches if each.arguments.get("PRECISION") == "tf32x3"]


def _wide_integers(shape: tuple[int, ...], device: str) -> Tensor:
    """Integers of up to 13 bits, two more than TF32 holds: their small halves count."""
    t = torch.randint(-8191, 8192, shape).float() * (torch.rand(shape) < 0.3)
    return t.to(device).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("which, plan", _plans(), ids=_named)
def test_tile(triton: Path, which: str, plan: Plan) -> None:
    """Sums below 2^24, exact in any order, of one wide and one narrow operand; either is the wide one in turn."""
    given = PROBLEMS[plan.algorithm]
    function = "conv2d_relu_pool2d" if which == "fprop_pool" else "conv2d"
    problem = Problem(given.name, function, given.shapes, given.options)
    x, w = problem.tensors(triton.device, torch.float32, True, integers=True)[:2]
    tensors = [x, w]
    wide = {"dgrad": 1, "wgrad": 0}.get(which, plan.block.block_n // 32 % 2)
    tensors[wide] = _wide_integers(tuple(tensors[wide].shape), triton.device)
    dy = make(problem.torchs(*tensors).shape, triton.device, integers=True)
    with force_plan(which, plan):
        got = answer(which, problem.ours, tensors, dy)
        with record() as launches:
            answer(which, problem.ours, [t.cpu() for t in tensors], dy.cpu())
    assert_exact(got, answer(which, problem.torchs, [t.double() for t in tensors], dy.double()))
    assert _tf32x3(launches)


LONG = {"x": (1, 64, 4, 4), "w": (32, 64, 3, 3)}
"""576 products forward, 288 backward, 16 pixels."""


def _launches(dtype: torch.dtype = torch.float32, card: Card = H100, **shapes: tuple[int, ...]) -> list[str]:
    sizes = {**LONG, **shapes}
    with kernels.backend("triton"), assume_card(card), record() as launches:
        kernels.conv2d(torch.empty(sizes["x"], dtype=dtype), torch.empty(sizes["w"], dtype=dtype), padding=1)
    return _tf32x3(launches)


def test_only_where_it_is_asked_for(triton: Path) -> None:
    assert _launches() == ["fprop_kernel"]
    with set_float32_products("fma"):
        assert not _launches()
    assert _launches(), "the block has ended"
    torch.backends.cudnn.allow_tf32 = True
    assert not _launches(), "torch allows TF32"
    torch.backends.cudnn.allow_tf32 = False
    assert not _launches(torch.float64)
    assert not _launches(torch.float16)
    assert not _launches(card=Card(101_376, False)), "three TF32 products are slower there"
    assert not _launches(x=(1, 48, 4, 4), w=(32, 48, 3, 3)), "432 products"
    assert not _launches(x=(1, 72, 4, 4), w=(32, 72, 3, 3)), "no whole blocks of channels"


def test_at_first_products_are_plain(wanted_before: bool) -> None:
    assert not wanted_before and tf32x3_wanted()


def test_another_name_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"'fma', 'tf32x3'.*not 'fast'"):
        set_float32_products("fast")
    assert _launches(), "nothing has changed"


def test_a_call_alone_sets_it() -> None:
    set_float32_products(FLOAT32_PRODUCTS[0])
    assert not _launches()
    set_float32_products(FLOAT32_PRODUCTS[1])
    assert _launches()


def test_remembered_calls_obey(triton: Path) -> None:
    """The same call before and after: what is remembered of it depends on the choice."""
    x, w = (torch.randn(LONG[name], device=triton.device) for name in "xw")
    answers = []
    for how in ("fma", "tf32x3", "fma", "tf32x3"):
        with set_float32_products(how):
            answers.append(kernels.conv2d(x, w, padding=1))
    assert torch.equal(answers[0], answers[2]) and torch.equal(answers[1], answers[3])
    assert not torch.equal(answers[0], answers[1])


def test_parts_of_a_sum_stay_long() -> None:
    """A sum cut in parts is as short as they are."""
    for which in ("fprop", "dgrad", "wgrad"):
        for size in (8, 14, 28):
            g = _geometry((8, 256, size, size), (256, 256, 3, 3), padding=1)
            plan = rule(which, g, 4, X3)
            length = g.n * g.p * g.q if which == "wgrad" else 9 * 256
            assert plan.tf32x3 and length // plan.splits >= LONG_SUM * 15 // 16, plan


@pytest.mark.skipif(not descriptors._CAN_ROUND, reason="this Triton's TMA rounds nothing")
def test_tma_keeps_the_bits_of_small_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operands that TMA rounds to TF32 while it copies have no small halves."""
    monkeypatch.setattr(descriptors, "INTERPRET", False)
    x = torch.empty(64, 128, 6, 6).to(memory_format=torch.channels_last)
    w = torch.empty(128, 128, 3, 3).to(memory_format=torch.channels_last)
    w_1, wide = torch.empty(128, 512, 1, 1), torch.empty(64, 512, 6, 6).to(memory_format=torch.channels_last)
    with kernels.backend("triton"), assume_card(H100), record() as launches:
        kernels.conv2d(x, w, padding=1)
        kernels.conv2d(wide, w_1)
    assert {"batch_fprop_kernel", "matmul_kernel"} <= set(_tf32x3(launches))
    boxes = [v for each in launches for v in each.arguments.values() if hasattr(v, "round_f32_to_tf32")]
    assert boxes and not any(box.round_f32_to_tf32 for box in boxes)


def test_explain_names_it(triton: Path) -> None:
    x, w = (torch.empty(LONG[name], device=triton.device) for name in "xw")
    assert "products=tf32x3" in str(kernels.explain(kernels.conv2d, x, w, padding=1))
    with set_float32_products("fma"):
        assert "products" not in str(kernels.explain(kernels.conv2d, x, w, padding=1))


INF, NAN, LARGEST = float("inf"), float("nan"), torch.finfo(torch.float32).max


def _long_problem(which: str) -> tuple[list[Tensor], Tensor, Problem]:
    """A problem whose pass `which` multiplies so, without zeros, whose dgrad meets no padding."""
    shapes = {"fprop": ((1, 64, 3, 4), (32, 64, 3, 3)), "dgrad": ((1, 32, 3, 4), (64, 32, 3, 3))}
    x, w = shapes.get(which, ((2, 32, 17, 17), (32, 32, 1, 1)))
    problem = conv(which, x, w, bias=False)
    tensors = [t + 10 * t.sign() for t in problem.tensors("cpu")[:2]]
    return tensors, make(problem.torchs(*tensors).shape, "cpu") + 7, problem


@pytest.mark.parametrize("value", [NAN, INF, -INF], ids=str)
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("which", ["fprop", "dgrad", "wgrad"])
def test_special_values(triton: Path, which: str, place: int, value: float) -> None:
    """One in either operand of a pass: it comes out where torch's comes out, and is no NaN by its missing half."""
    tensors, dy, problem = _long_problem(which)
    operands = {"fprop": [*tensors], "dgrad": [dy, tensors[1]], "wgrad": [dy, tensors[0]]}[which]
    operands[place].view(-1)[37 % operands[place].numel()] = value
    tensors = [t.to(triton.device) for t in tensors]
    with record() as launches:
        answer(which, problem.ours, [t.cpu() for t in tensors], dy)
    assert _tf32x3(launches)
    got = answer(which, problem.ours, tensors, dy.to(triton.device))
    want = answer(which, problem.torchs, [t.double().cpu() for t in tensors], dy.double())
    if which == "dgrad":  # beyond the edge of dy a special weight meets a zero, in cuDNN's products as in ours
        got, want = got[..., 2:, 2:-2], want[..., 2:, 2:-2]
    assert_same_special(got, want)


def test_infinities_of_both_signs_are_nan(triton: Path) -> None:
    x, w = torch.ones(1, 64, 3, 3), torch.ones(32, 64, 3, 3)
    x[0, 0, 0, 0], x[0, 5, 1, 1] = INF, -INF
    w[1, 5, 1, 1] = 0
    y = kernels.conv2d(x.to(triton.device), w.to(triton.device)).flatten().cpu()
    assert y.isnan().all()
    w[2:, 5, 1, 1] = -1
    y = kernels.conv2d(x.to(triton.device), w.to(triton.device)).flatten().cpu()
    assert y[:2].isnan().all() and (y[2:] == INF).all()


def test_the_largest_numbers_stay_finite(triton: Path) -> None:
    """Rounded to TF32 they would be infinite."""
    x, w = torch.zeros(1, 64, 3, 3), torch.full((32, 64, 3, 3), 0.25)
    x[0, 7, 1, 2], x[0, 40, 0, 0] = LARGEST, -LARGEST / 2
    y = kernels.conv2d(x.to(triton.device), w.to(triton.device)).double()
    assert ((y / (LARGEST / 8) - 1).abs() < 2**-21).all()


def test_tiny_numbers_lose_no_more_than_their_size(triton: Path) -> None:
    """Tensor cores may take what is below the normal numbers for zero, as torch's own kernels on a card do."""
    tiny = torch.finfo(torch.float32).tiny
    x, w = torch.full((1, 64, 3, 3), 1.3 * tiny), torch.full((32, 64, 3, 3), 1.7)
    x[0, 0] = 1e-40
    y, exact = kernels.conv2d(x.to(triton.device), w.to(triton.device)).double().cpu(), F.conv2d(x.double(), w.double())
    assert (y - exact).abs().max() < 576 * 1.7 * 2**-11 * 2 * tiny


@jit
def _halves(x_ptr, big_ptr, small_ptr, N: tl.constexpr):  # type: ignore[no-untyped-def]
    o = tl.arange(0, N)
    b_big, b_small = halves(tl.load(x_ptr + o))
    tl.store(big_ptr + o, b_big)
    tl.store(small_ptr + o, b_small)


def test_halves(triton: Path) -> None:
    """big has TF32's 10 bits of fraction, small is the rest; what is left of what is not finite is NaN."""
    step = 2.0**-10
    given = [1 + 0.3 * step, -1 - 0.7 * step, 1 + 0.5 * step, 1e-42, LARGEST, -LARGEST, INF, -INF, NAN, 0.0, -0.0, 3.25]
    x = torch.tensor(given + [0.0] * 4, device=triton.device)
    big, small = torch.full_like(x, 7), torch.full_like(x, 7)
    launch(_halves, 1, x_ptr=x, big_ptr=big, small_ptr=small, N=16)
    assert not (big.view(torch.int32) & 0x1FFF).any()
    top = (2 - 2.0**-10) * 2.0**127
    assert big[:3].tolist() == [1, -1 - step, 1 + step] and big[4:6].tolist() == [top, -top]
    finite = x.isfinite()
    assert torch.equal((big.double() + small.double())[finite], x.double()[finite])
    assert (small[:3].abs() <= step / 2).all()
    assert_same_special(big, x)
    assert small[~finite].isnan().all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="tensor cores have their own arithmetic")
@pytest.mark.parametrize("channels", [64, 256, 512])
@pytest.mark.parametrize("sign", ["one", "both"])
def test_long_sums_are_nearer_than_float32s(triton: Path, sign: str, channels: int) -> None:
    """What bench/tensor_cores.py predicts from published measurements: the condition for ever making it the default."""
    x = torch.randn(8, channels, 9, 9).to(triton.device)
    w = torch.randn(64, channels, 3, 3).to(triton.device)
    if sign == "one":
        x, w = x.relu(), w.abs()
    exact = F.conv2d(x.double(), w.double())
    errors = {}
    for how in FLOAT32_PRODUCTS:
        with set_float32_products(how):
            errors[how] = float((kernels.conv2d(x, w).double() - exact).norm() / exact.norm())
    assert errors["tf32x3"] <= errors["fma"], errors
