"""pytest -p tests.ptx.plugin --arch sm_90: the Triton path of every test runs PTX. Needs TRITON_INTERPRET=0."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.ptx.launch import Card, emulated


def pytest_addoption(parser: pytest.Parser) -> None:
    """--arch and --races, as of python -m tests.ptx."""
    parser.addoption("--arch", default="sm_90", help="sm_80, sm_86, sm_89, sm_90 or sm_120")
    parser.addoption("--races", action="store_true", help="also look for races between warps")


def pytest_configure() -> None:
    """As on a card: tests that want TF32 ask for it. Torch's own tests, once imported, forbid to set it."""
    torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(scope="session", autouse=True)
def _on_a_card(request: pytest.FixtureRequest) -> Iterator[None]:
    from kernels.common.device import INTERPRET

    if INTERPRET:
        pytest.exit("set TRITON_INTERPRET=0: the interpreter replaces the compiler", 2)
    with emulated(Card(request.config.getoption("--arch"), request.config.getoption("--races"))) as card:
        yield
    print(f"\n{card.target}: {sum(card.ran.values())} launches of {len(card.compiled)} programs")
