"""Set-up of every test: one thread, fixed random numbers, and the seed of the fuzz tests."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)

SEED = "FUZZ_SEED"


def pytest_configure(config: pytest.Config) -> None:
    """One seed for this run; the worker processes inherit it."""
    os.environ.setdefault(SEED, str(random.randrange(2**31)))


def pytest_report_header() -> str:
    """How to run the same fuzz cases again."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu, Triton kernels in the interpreter"
    return f"device: {device}; fuzz seed: {SEED}={os.environ[SEED]}"


@pytest.fixture(autouse=True)
def fixed_random_numbers() -> None:
    """Every test draws the same numbers, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def settable_flags() -> None:
    """torch.testing._internal forbids plain assignments to torch.backends flags for the rest of its process."""
    torch.backends.flags_frozen.__globals__["__allow_nonbracketed_mutation_flag"] = True


@pytest.fixture(autouse=True, scope="module")
def torchs_own_flags() -> Iterator[None]:
    """A benchmark sets them for its process; the next file finds them as they were."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.benchmark_limit, cudnn.allow_tf32, matmul.allow_tf32
    yield
    cudnn.benchmark, cudnn.benchmark_limit, cudnn.allow_tf32, matmul.allow_tf32 = before
