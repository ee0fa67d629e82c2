"""The table of errors: this package is about as exact as torch, and rounding to TF32 is better than cutting."""

from __future__ import annotations

import pytest
import torch

from bench.accuracy import SIZES, Row, measure, nearest_tf32, table, worse
from tests.kernels.paths import why_no_triton


def test_errors_are_torchs_or_less() -> None:
    reason = why_no_triton()
    if reason is not None:
        pytest.skip(reason)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = list(measure(device))
    assert {row.precision for row in rows} >= {"float16", "float32", "float64, ours from torch's"}
    assert not worse(rows)
    for row in rows:
        assert row.ours is not None and row.ours > 0
        if row.precision.startswith("float64"):
            assert row.ours < 1e-15
    if device.type == "cpu":
        by_name = {(row.precision, row.which): row.ours for row in rows}
        for which in ("fprop", "dgrad", "wgrad"):
            rounded = by_name["tf32, operands rounded (simulated)", which]
            cut = by_name["tf32, operands cut (simulated)", which]
            assert rounded is not None and cut is not None and 5 * rounded < cut
    assert "| float16 | wgrad |" in table(rows, "a machine", "torch", SIZES[device.type])


def test_nearest_tf32_has_ten_bits() -> None:
    x = torch.tensor([1 + 2**-10, 1 + 2**-11, -1 - 2**-11, 1 + 2**-12])
    assert nearest_tf32(x).tolist() == [1 + 2**-10, 1 + 2**-10, -1 - 2**-10, 1.0]


def test_a_larger_error_is_named() -> None:
    rows = [Row("float16", "fprop", 3e-4, 2e-4), Row("float16", "dgrad", 4e-4, 2e-4), Row("tf32", "fprop", 1.0, None)]
    assert worse(rows) == [rows[1]]
