"""A planted wrong provider is called wrong and gets no time."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from bench.cases.sets import cases
from bench.clock import clocks
from bench.gate import expected, judge
from bench.problem import problem
from bench.providers import Contender, eager, providers
from bench.run import run_case

CPU = torch.device("cpu")


class Planted:
    """The eager provider with one of its results changed."""

    NAME = "planted"
    HELP = "wrong on purpose"

    def __init__(self, index, change):
        self.index, self.change = index, change

    def layouts(self, case, device):
        return ("nchw",)

    def reason(self, case, device):
        return None

    def prepare(self, made, layout):
        right = eager.prepare(made, layout)

        def step(i):
            results = list(right.step(i))
            results[self.index] = self.change(results[self.index].clone())
            return tuple(results)

        return dataclasses.replace(right, provider="planted", step=step)


def one_element(x):
    x.view(-1)[x.numel() // 2] += 1.0
    return x


def not_a_number(x):
    x.view(-1)[-1] = float("nan")
    return x


CHANGES = {
    "a thousandth too large": lambda x: x * 1.001,
    "one element": one_element,
    "NaN": not_a_number,
    "zero": torch.zeros_like,
    "transposed": lambda x: x.flip(0) if x.shape[0] > 1 else -x,
    "another shape": lambda x: x.flatten(),
}
TRAINING = cases("smoke", ["lenet/conv2/conv2d/training/*"])[0]


def rows_of(case, *planted):
    return list(run_case(case, CPU, [*providers(["eager"]), *planted], clocks(CPU), None, 0.02))


@pytest.mark.parametrize("index", [0, 1, 2], ids=["output", "input gradient", "weight gradient"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_planted_wrong_provider_is_not_timed(name, index):
    rows = rows_of(TRAINING, Planted(index, CHANGES[name]))
    planted = [row for row in rows if row["provider"] == "planted"]
    assert [row["status"] for row in planted] == ["wrong"]
    assert "value" not in planted[0] and planted[0]["reason"]
    assert all("value" in row for row in rows if row["provider"] == "eager")


def test_an_unchanged_provider_is_timed():
    planted = [row for row in rows_of(TRAINING, Planted(0, lambda x: x)) if row["provider"] == "planted"]
    assert [row["status"] for row in planted] == ["ok"] and planted[0]["value"] > 0


def test_a_provider_that_raises_is_a_row_and_the_others_go_on():
    class Raises(Planted):
        def prepare(self, made, layout):
            raise NotImplementedError("not this one")

    rows = rows_of(TRAINING, Raises(0, None))
    assert [row["reason"] for row in rows if row["status"] == "failed"] == ["NotImplementedError: not this one"]
    assert any("value" in row for row in rows)


def test_a_missing_result_is_wrong():
    made = problem(TRAINING, CPU)
    results = eager.prepare(made, "nchw").step(0)
    verdict = judge(made, results[:-1], expected(made))
    assert not verdict.ok and "3 results where 4 are expected" in verdict.reason


@pytest.mark.parametrize("case", cases("smoke"), ids=lambda case: case.name)
def test_torch_itself_passes_in_both_layouts(case):
    made = problem(case, CPU)
    reference = expected(made)
    for layout in ("nchw", "nhwc"):
        verdict = judge(made, eager.prepare(made, layout).step(0), reference)
        assert verdict.ok, verdict.reason


def test_large_problems_are_compared_at_both_ends(monkeypatch):
    """An index that overflows goes wrong in the last images; gradients of weights are those of all images."""
    case = TRAINING.with_(batch=9)
    whole = expected(problem(case, CPU))
    monkeypatch.setattr("bench.gate.CHUNK_ELEMENTS", 2 * 16 * 10 * 10)
    made = problem(case, CPU)
    parts = expected(made)
    assert {item.images for item in parts if item.name == "output"} == {(0, 2), (8, 9)}
    gradient = next(item.value for item in parts if item.name == "weight gradient")
    torch.testing.assert_close(gradient, next(item.value for item in whole if item.name == "weight gradient"))
    results = list(eager.prepare(made, "nchw").step(0))
    assert judge(made, results, parts).ok
    results[0] = results[0].detach().clone()
    results[0][8] *= 1.01
    assert not judge(made, results, parts).ok


def test_half_precision_is_judged_by_its_own_measure():
    case = cases("smoke", ["lenet/conv2/conv2d_relu_pool2d/training/*"])[0].with_(precision="bf16", batch=32)
    made = problem(case, CPU)
    reference = expected(made)
    verdict = judge(made, eager.prepare(made, "nchw").step(0), reference)
    assert verdict.ok, verdict.reason
    results = eager.prepare(made, "nchw").step(0)
    assert not judge(made, [torch.zeros_like(result) for result in results], reference, verdict).ok
    # Ties sent some of torch's gradients elsewhere than float64's; its output is judged by the output's own error.
    assert verdict.errors["output"] < 0.01 < 0.05
    assert not judge(made, [results[0] * 1.05, *results[1:]], reference, verdict).ok


def test_contender_label():
    assert Contender("a", "nchw", "p", lambda i: ()).label == "a/nchw"
