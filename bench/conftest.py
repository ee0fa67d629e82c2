"""One benchmark a case, provider and layout, grouped by case; a wrong provider fails instead of being timed.

Options of pytest-benchmark apply, --benchmark-save and --benchmark-compare among them. --bench-set and --bench-device
choose what runs; wall times only, since pytest-benchmark has no device events and no turns (`python -m bench run` has).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch

from bench.cases import Case
from bench.cases.sets import cases
from bench.clock import synchronizer
from bench.facts import device_of
from bench.gate import expected, judge
from bench.problem import Problem, problem
from bench.providers import Provider, eager, providers
from bench.run import copies, set_precision

# A minute or two of the CPU set; --bench-set cpu runs all of it.
SHORT = (
    "lenet/inference/n1/*",
    "lenet/inference/n256/*",
    "lenet/training/n1/*",
    "lenet/training/n256/*",
    "lenet/*/conv2d_relu_pool2d/*",
    "lenet/pool1*",
    "mobilenetv2/*/inference/*",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """What runs, and where."""
    group = parser.getgroup("bench")
    group.addoption("--bench-set", default="short", help="short, smoke, headline, cpu or all")
    group.addoption("--bench-device", default="auto", help="auto, cpu or cuda")
    group.addoption("--bench-threads", type=int, default=1, help="CPU threads")


def chosen(name: str) -> list[Case]:
    """The cases of the set; "short" is a part of "cpu"."""
    return cases("cpu", SHORT) if name == "short" else cases(name)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A parameter for every (case, provider, layout) that can run here."""
    if "contender" not in metafunc.fixturenames:
        return
    device = device_of(metafunc.config.getoption("--bench-device"))
    networks = metafunc.function.__name__ == "test_network"
    parameters: list[Any] = []
    for case in chosen(metafunc.config.getoption("--bench-set")):
        if (case.layer is None) == networks:
            parameters += [
                pytest.param((case, provider, layout), id=f"{case.name}-{provider.NAME}-{layout}")
                for provider in providers()
                if provider.reason(case, device) is None
                for layout in provider.layouts(case, device)
            ]
    metafunc.parametrize("contender", parameters, indirect=True)


@lru_cache(maxsize=1)
def _problem(case: Case, device: torch.device) -> tuple[Problem, Any, Any]:
    set_precision(case.precision)
    made = problem(case, device, copies(case, device))
    reference = expected(made)
    torchs = judge(made, eager.prepare(made, "nchw").step(0), reference)
    return made, reference, torchs if torchs.ok else None


@pytest.fixture
def contender(request: pytest.FixtureRequest, benchmark: Any) -> Any:
    """A call that runs the case once and waits for the device; the provider's result judged before."""
    case, provider, layout = request.param
    torch.set_num_threads(request.config.getoption("--bench-threads"))
    device = device_of(request.config.getoption("--bench-device"))
    made, reference, torchs = _problem(case, device)
    prepared = _prepared(provider, made, layout)
    with prepared.scope():
        verdict = judge(made, prepared.step(0), reference, torchs)
        if not verdict.ok:
            pytest.fail(f"wrong, not timed: {verdict.reason}")
        benchmark.group = case.name
        benchmark.name = prepared.label
        benchmark.extra_info.update(path=prepared.path, device=str(device), threads=torch.get_num_threads())
        wait = synchronizer(device)
        turn = 0

        def call() -> None:
            nonlocal turn
            prepared.step(turn)
            turn += 1
            wait()

        yield call


def _prepared(provider: Provider, made: Problem, layout: str) -> Any:
    try:
        return provider.prepare(made, layout)
    except NotImplementedError as error:
        pytest.skip(f"{provider.NAME}: {error}")
