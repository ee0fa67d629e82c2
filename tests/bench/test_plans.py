"""`bench inspect --plans` and `--loops`: a part of the plans that can ship, and the main loops on Hopper."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.machine_code.jobs import tile_of
from bench.machine_code.loops import LOOPS, Found
from bench.machine_code.plans import SHAPES, faults, jobs, part, spread
from kernels.conv2d.plans.tiles import tiles

ROOT = Path(__file__).parents[2]
TARGETS = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120", "gfx942")
ROW: dict[str, Any] = {
    "target": "sm_90",
    "kernel": "fprop_kernel",
    "dtype": "float16",
    "dot": True,
    "chunk": 8,
    "stack": 0,
    "shared": 1024,
    "tile": {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 4},
    "total": {"wgmma": 4},
    "loop": {"all": 100, "wgmma": 4, "async_copy": 8, "async_copy_16": 8},
}


def inspect(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bench", "inspect", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


def test_a_part_of_the_plans_is_clean_on_every_card(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    where = ["--arch", *TARGETS, "--dtype", "float16", "ieee"]
    done = inspect("--plans", "--part", "1/200", *where, "--processes", "1", "--json", str(file))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert {(row["target"], row["dtype"]) for row in rows} == {(t, d) for t in TARGETS for d in ("float16", "ieee")}


def test_no_loop_has_more_instructions_than_its_prototype() -> None:
    """Nor a narrow copy, nor operands in registers."""
    done = inspect("--loops")
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert [line.startswith(loop.name) for line, loop in zip(done.stdout.splitlines(), LOOPS, strict=False)] == [
        True
    ] * len(LOOPS)


@pytest.mark.parametrize(
    "counts, good",
    [
        ({"all": 122, "wgmma": 4, "async_copy": 8, "async_copy_16": 8}, True),
        ({"all": 123, "wgmma": 4, "async_copy": 8, "async_copy_16": 8}, False),
        ({"all": 100, "wgmma": 4, "async_copy": 8, "async_copy_16": 7}, False),
        ({"all": 100, "wgmma": 4, "shared_load": 1}, False),
        ({"all": 100}, False),
    ],
)
def test_a_worse_loop_is_noticed(counts: dict[str, int], good: bool) -> None:
    assert LOOPS[0].instructions == 111
    assert Found(LOOPS[0], counts).is_good == good


UNROLLED = {
    "kernel": "groups_fprop_kernel",
    "loop": {"wgmma": 4, "load": 9},
    "total": {"wgmma": 40, "async_copy": 44, "async_copy_16": 22},
}
"""Packed groups whose taps are unrolled: the loop that is left is the one that NaNs take."""


@pytest.mark.parametrize(
    "change, what",
    [
        ({}, None),
        ({"error": "no"}, "does not compile"),
        ({"stack": 8}, "8 bytes of stack"),
        ({"shared": 10**6}, "shared memory beyond the card's 232448"),
        ({"total": {}}, "no tensor cores"),
        ({"loop": {"all": 9, "wgmma": 4, "tma_load": 2, "shared_load": 4}}, "operands through registers"),
        ({"loop": {"all": 9, "wgmma": 4, "async_copy": 8, "async_copy_16": 6}}, "2 copies of less than 16 bytes"),
        ({"loop": {"all": 9, "wgmma": 4, "load": 3}}, "3 copies of less than 16 bytes"),
        ({"loop": {"all": 9, "wgmma": 4, "load": 3}, "chunk": 1}, None),
        ({"kernel": "groups_fprop_kernel", "loop": {"load": 9, "async_copy": 4, "async_copy_16": 4}}, None),
        (
            {"kernel": "groups_fprop_kernel", "loop": {"load": 9, "async_copy": 4, "async_copy_16": 3}},
            "1 copies of less than 16 bytes",
        ),
        ({"kernel": "groups_fprop_kernel", "loop": {"wgmma": 4, "load": 9}}, "4 copies of less than 16 bytes"),
        (UNROLLED, None),
        ({**UNROLLED, "kernel": "fprop_pool_kernel"}, "22 copies of less than 16 bytes"),
        ({**UNROLLED, "total": {"wgmma": 36, "async_copy": 22, "async_copy_16": 3}}, "1 copies of less than 16 bytes"),
    ],
)
def test_a_fault_is_named(change: dict[str, Any], what: str | None) -> None:
    assert faults(ROW | change) == ([] if what is None else [what])


def test_the_plans_are_all_there() -> None:
    """Every tile of the gather, on shapes whose channels are whole chunks, and those of odd channels on the others."""
    found = jobs("sm_90", "float16", ("fprop",))
    named = {job.case.split(" ", 1)[1].split(" ")[0] for job in found}
    assert named == {name.split(" ")[0] for name in SHAPES}
    launched = [tile_of(j.launch) for j in found if j.launch.kernel.__name__ == "fprop_kernel"]
    made = {(t["BLOCK_M"], t["BLOCK_N"], t["BLOCK_K"]) for t in launched}
    assert made == {(t.block_m, t.block_n, t.block_k) for wide in (True, False) for t in tiles("fprop", 2, wide=wide)}
    few = spread(found, 1)
    assert {tuple(tile_of(j.launch).items()) for j in few} == {tuple(tile_of(j.launch).items()) for j in found}
    parts = [part(few, f"{i}/3") for i in (1, 2, 3)]
    assert sorted(map(id, few)) == sorted(id(job) for some in parts for job in some)


@pytest.mark.parametrize(
    "words", [["--part", "0/3"], ["--part", "x"], ["--plans", "0"], ["--arch", "sm_1"]], ids=" ".join
)
def test_wrong_words_are_one_line(words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr("kernels.common.device.INTERPRET", False)
    plans = [] if "--plans" in words else ["--plans"]
    assert main(["inspect", *plans, *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
