"""Fixtures of the kernel tests: the path a test runs on, and memory that holds garbage until it is written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from kernels.common.signature import apart
from kernels.cpu import front
from tests.kernels.paths import CPU_PATH, TRITON_PATH, Path, overflow_checks, why_no_triton


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """New memory is NaN (integers: the largest value), so that an element that nobody writes fails the test."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    front.use_memory_of(front.empty)
    yield
    front.use_memory_of(front.QUICK_EMPTY)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def float32_is_exact_on_a_card() -> Iterator[None]:
    """Float32 results are judged by torch's own error, and cuDNN uses TF32 for some shapes only: on a card a test that
    wants TF32 asks for it. The interpreter multiplies exactly whatever the flags say; there they choose TF32's plans.
    """
    before = torch.backends.cudnn.allow_tf32
    if torch.cuda.is_available():
        torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(autouse=True)
def nothing_learnt() -> Iterator[None]:
    """Tests change what calls depend on; none meets what another has taught the package."""
    with apart(object()):
        yield


@pytest.fixture
def triton() -> Iterator[Path]:
    """The Triton kernels: on the card if there is one, else in the interpreter."""
    yield from _enter(TRITON_PATH)


@pytest.fixture(params=[TRITON_PATH, CPU_PATH], ids=str)
def path(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Both paths in turn: the Triton kernels, and what CPU tensors take by default."""
    yield from _enter(request.param)


def _enter(path: Path) -> Iterator[Path]:
    reason = why_no_triton() if path is TRITON_PATH else None
    if reason is not None:
        pytest.skip(reason)
    with path.enter(), overflow_checks(False):
        yield path


@pytest.fixture
def checked_integers(triton: Path) -> Iterator[None]:
    """Every 32-bit index computation of the interpreter is checked for overflow."""
    with overflow_checks(True):
        yield
