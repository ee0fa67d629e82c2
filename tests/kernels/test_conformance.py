"""A part of torch's own tests at every run; `python -m tests.conformance` runs them all and prints the score."""

import pytest
import torch

from tests.conformance import checks
from tests.conformance.samples import FLOATS, LAYERS, OPERATORS, dtypes
from tests.kernels.paths import Path

EVERY = {
    "max_pool2d": 36,
    "conv2d": 2,
    "conv2d_relu": 6,
    "conv2d_relu_pool2d": 6,
    "max_pool1d": 48,
    "conv_transpose2d": 3,
}
"""Which part of an operator's samples: max_pool2d has 1,440 a dtype."""


def _assert_all_passed(scorer: checks.Scorer) -> None:
    failures = [failure for count in scorer.score.values() for failure in count.failures]
    assert not failures, f"{len(failures)} of torch's own tests fail:\n" + "\n".join(failures)
    assert sum(count.passed for count in scorer.score.values())


@pytest.mark.parametrize(
    "operator, dtype", [(name, dtype) for name in OPERATORS for dtype in dtypes(name, "cpu")], ids=str
)
def test_operator(path: Path, operator: str, dtype: torch.dtype) -> None:
    if dtype not in dtypes(operator, path.device):
        pytest.skip(f"torch has no {dtype} {operator} on {path.device}")
    scorer = checks.Scorer()
    checks.operator(scorer, path, operator, dtype, every=EVERY.get(operator, 1))
    _assert_all_passed(scorer)


@pytest.mark.parametrize("operator", [name for name in OPERATORS if name != "conv_transpose2d"])
def test_errors(path: Path, operator: str) -> None:
    scorer = checks.Scorer()
    checks.errors(scorer, path, operator)
    _assert_all_passed(scorer)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("layer", LAYERS)
def test_layer(path: Path, layer: str, dtype: torch.dtype) -> None:
    scorer = checks.Scorer()
    checks.layer(scorer, path, layer, dtype)
    _assert_all_passed(scorer)


def test_a_wrong_kernel_lowers_the_score(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The score can fall: an answer that is off by a little, and an error of another type."""
    import kernels
    from tests.conformance import samples

    monkeypatch.setitem(samples.OURS, "avg_pool2d", lambda *a, **k: kernels.avg_pool2d(*a, **k) * (1 + 1e-5))
    scorer = checks.Scorer()
    checks.operator(scorer, path, "avg_pool2d", torch.float32)
    assert scorer.score["avg_pool2d", "forward"].failures
    monkeypatch.setitem(samples.OURS, "avg_pool2d", lambda *a, **k: 1 / 0)
    checks.errors(scorer, path, "avg_pool2d")
    assert scorer.score["avg_pool2d", "errors"].failures
