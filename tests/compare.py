"""The judge: our error against a float64 reference is at most twice torch's own in the same dtype."""

from __future__ import annotations

import torch
from torch import Tensor

FLOOR = 4
FLOAT64_FLOOR = 64
"""Units in the last place of the largest value that are always allowed: on tiny problems torch's error may be 0, and in
float64 the reference is rounded as well."""


def error(got: Tensor, exact: Tensor) -> float:
    """The largest absolute error over the finite elements; the others must be the same infinities and NaNs."""
    exact = exact.double().cpu()
    got = got.detach().double().cpu()
    finite = exact.isfinite()
    if not finite.any():
        return 0.0
    return float((got - exact)[finite].abs().max())


def assert_same_form(ours: Tensor, torchs: Tensor, what: str = "result", loose: bool = False) -> None:
    """Shape, dtype, device and strides are torch's.

    `loose` leaves out the strides of dimensions of size one and of empty tensors: there torch's backends disagree
    among themselves on gradients, and torch has no single operator to compare a fused one with.
    """
    for name in ("shape", "dtype", "device"):
        got, want = getattr(ours, name), getattr(torchs, name)
        assert got == want, f"{what}: {name} is {got}, torch's {want}"
    counts = [not loose or (size > 1 and ours.numel() > 0) for size in ours.shape]
    same = all(a == b for a, b, c in zip(ours.stride(), torchs.stride(), counts, strict=True) if c)
    assert same, f"{what}: strides are {ours.stride()}, torch's {torchs.stride()}, shape {tuple(ours.shape)}"


def assert_as_good(ours: Tensor | None, torchs: Tensor | None, exact: Tensor | None, what: str = "result") -> None:
    """`ours` has torch's form, its infinities and NaNs are torch's, and its error is at most twice torch's."""
    if torchs is None or ours is None or exact is None:
        assert ours is None and torchs is None, f"{what}: ours is {type(ours)}, torch's {type(torchs)}"
        return
    assert ours.shape == torchs.shape, f"{what}: shape is {tuple(ours.shape)}, torch's {tuple(torchs.shape)}"
    assert ours.dtype == torchs.dtype, f"{what}: dtype is {ours.dtype}, torch's {torchs.dtype}"
    if ours.numel() == 0:
        return
    exact = torch.where(torchs.cpu().isfinite(), exact.double().cpu(), torchs.double().cpu())
    assert_same_special(ours, torchs, what)
    finite = exact[exact.isfinite()]
    largest = float(finite.abs().max()) if finite.numel() else 0.0
    info = torch.finfo(ours.dtype)
    floor = FLOAT64_FLOOR if ours.dtype == torch.float64 else FLOOR
    allowed = 2 * error(torchs, exact) + floor * (info.eps * largest + info.tiny)
    found = error(ours, exact)
    assert found <= allowed, (
        f"{what}: error {found:.3g} is more than {allowed:.3g} (torch's own {error(torchs, exact):.3g}, "
        f"largest value {largest:.3g}, {ours.dtype})"
    )


def assert_same_special(ours: Tensor, torchs: Tensor, what: str = "result") -> None:
    """NaN where torch has NaN, and every infinity of torch's with its sign."""
    a, b = ours.detach().cpu(), torchs.detach().cpu()
    assert torch.equal(a.isnan(), b.isnan()), f"{what}: {int(a.isnan().sum())} NaNs, torch has {int(b.isnan().sum())}"
    for name in ("isposinf", "isneginf"):
        count_a, count_b = getattr(torch, name)(a), getattr(torch, name)(b)
        assert torch.equal(count_a, count_b), f"{what}: {name} at other places than torch's"


def assert_exact(ours: Tensor | None, exact: Tensor | None, what: str = "result") -> None:
    """Bit for bit the exact answer in our dtype: for small integers no order of summation may change it."""
    if ours is None or exact is None:
        assert ours is None and exact is None, f"{what}: ours is {type(ours)}, the reference's {type(exact)}"
        return
    want = exact.detach().to(ours.dtype).cpu()
    got = ours.detach().cpu()
    assert got.shape == want.shape, f"{what}: shape is {tuple(got.shape)}, expected {tuple(want.shape)}"
    wrong = ~((got == want) | (got.isnan() & want.isnan()))
    first = tuple(int(i) for i in wrong.nonzero()[0]) if wrong.any() else ()
    assert not wrong.any(), (
        f"{what}: {int(wrong.sum())} of {wrong.numel()} elements differ; first at {first}: "
        f"{float(got[first]):.6g}, expected {float(want[first]):.6g}"
    )
