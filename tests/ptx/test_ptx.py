"""The emulated card: it computes what torch does, and sees what the interpreter does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ptx.arithmetic import function, pack, unpack

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rows() -> dict[str, Any]:
    """What planted.py prints, in a process whose Triton compiles."""
    pytest.importorskip("triton.backends.nvidia")
    done = subprocess.run(
        [sys.executable, "-m", "tests.ptx.planted"],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    "name, families",
    [
        ("mma", ["mma.sync", "ldmatrix", "cp.async.c"]),
        ("tf32 mma", ["mma.sync", "ldmatrix", "cp.async.c"]),
        ("wgmma", ["wgmma.mma_async", "cp.async.bulk.tensor", "mbarrier.wait"]),
        ("tf32 wgmma", ["wgmma.mma_async", "cp.async.bulk.tensor", "mbarrier.wait"]),
        ("odd groups", []),
        ("odd groups, wgrad", []),
        ("odd input", []),
        ("no tap", []),
    ],
)
def test_products_are_exactly_torchs(rows: dict[str, Any], name: str, families: list[str]) -> None:
    wrong, found = rows[name]
    assert wrong == "0"
    assert set(families) <= set(found)


def test_masked_lanes_have_the_other_value(rows: dict[str, Any]) -> None:
    assert rows["other"] == [2.0, 6.0]


def test_a_read_beyond_a_tensor_is_named(rows: dict[str, Any]) -> None:
    assert "outside of every tensor: element 100 of [100]" in rows["beyond"]
    assert rows["beyond"].startswith("ProgramError: planted.py:")


def test_no_operand_of_lenets_gradients_changes_under_way(rows: dict[str, Any]) -> None:
    assert rows["lenet"] == "True"


def test_a_false_promise_about_a_mask_moves_what_it_should_not(rows: dict[str, Any]) -> None:
    assert rows["true promise"] == "True"
    assert "element 96 of [98]" in rows["false promise"]


@pytest.mark.parametrize(
    "name, op",
    [
        ("mma", "bar.sync"),
        ("mma", "cp.async.wait_group"),
        ("wgmma", "bar.sync"),
        ("wgmma", "mbarrier.wait"),
        ("wgmma", "wgmma.wait_group.sync.aligned"),
        ("wgmma", "fence.proxy.async.shared::cta"),
        ("wgmma", "cp.async.bulk.wait_group.read"),
    ],
)
def test_a_missing_barrier_or_wait_shows(rows: dict[str, Any], name: str, op: str) -> None:
    """Some may be missing without harm: those before a program's first copy or after its last."""
    assert any(said != "0" for said in rows[f"without {name}"][op])


def compute(op: str, *numbers: int | float) -> int | float:
    """One thread's result."""
    inner, (result,), kinds = function(op)
    codes = {"f": "f", "s": "i", "u": "u", "b": "u"}
    bits = [
        np.array([number], f"{codes[kind[0]]}{int(kind[1:]) // 8}").view(f"u{int(kind[1:]) // 8}")
        for number, kind in zip(numbers, kinds, strict=True)
    ]
    with np.errstate(all="ignore"):
        found = unpack(pack(inner(*[unpack(b, kind) for b, kind in zip(bits, kinds, strict=True)]), result), result)
    return found.item()


@pytest.mark.parametrize(
    "op, numbers, result",
    [
        ("div.s32", (-7, 2), -3),
        ("rem.s32", (-7, 2), -1),
        ("shr.s32", (-8, 40), -1),
        ("shl.b32", (1, 32), 0),
        ("mul.hi.s32", (-(2**30), 8), -2),
        ("mul.wide.s32", (-(2**30), 8), -(2**33)),
        ("mad.wide.u32", (2**31, 2, 1), 2**32 + 1),
        ("bfe.s32", (0b1100, 2, 2), -1),
        ("bfe.u32", (0b1100, 2, 2), 3),
        ("prmt.b32", (0x04030201, 0x08070605, 0x7410), 0x08050201),
        ("shf.l.wrap.b32", (0x80000000, 1, 1), 3),
        ("cvt.rzi.s32.f32", (-2.7,), -2),
        ("cvt.rn.f16.f32", (1 + 2**-11,), 1.0),
        ("cvt.rna.tf32.f32", (1 + 2**-11,), 1 + 2**-10),
        ("max.f32", (float("nan"), 1.0), 1.0),
        ("fma.rn.f32", (1 + 2**-23, 1 - 2**-23, -1.0), -(2.0**-46)),
    ],
)
def test_arithmetic(op: str, numbers: tuple[Any, ...], result: Any) -> None:
    assert compute(op, *numbers) == result


def test_packed_numbers_are_each_computed() -> None:
    inner, (kind,), _ = function("fma.rn.f32x2")
    a, b, c = (np.array([*pair], "f4").view("u8") for pair in ((2, 3), (5, 7), (1, -1)))
    assert pack(inner(*[unpack(bits, kind) for bits in (a, b, c)]), kind).view("f4").tolist() == [11, 20]


def test_a_sum_of_two_types() -> None:
    assert function("add.rn.f32.f16")[1:] == (["f32"], ["f16", "f32"])
    assert function("fma.rn.f32.bf16")[1:] == (["f32"], ["bf16", "bf16", "f32"])


def test_an_unknown_instruction_is_named() -> None:
    with pytest.raises(KeyError):
        function("popc.b32")
