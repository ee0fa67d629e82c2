"""Every instruction set in turn: those that the build holds and this processor runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernels.cpu import native

VARIANTS = native.variants()


@pytest.fixture(params=native.ISAS)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[native.Kernels]:
    """The compiled kernels of one instruction set, in force for this test."""
    if request.param not in VARIANTS:
        pytest.skip(f"{request.param}: not built, or not run by this processor")
    monkeypatch.setattr(native, "KERNELS", VARIANTS[request.param])
    yield VARIANTS[request.param]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[native.Kernels]:
    """The widest instruction set, whatever the environment chose."""
    if not VARIANTS:
        pytest.skip("the compiled CPU kernels are not built")
    kernels = next(iter(VARIANTS.values()))
    monkeypatch.setattr(native, "KERNELS", kernels)
    yield kernels


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were no compiled kernels."""
    monkeypatch.setattr(native, "KERNELS", None)
