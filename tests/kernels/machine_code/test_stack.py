"""What programs keep on the stack: nothing of plans that once did, and what there is, is noticed."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[3]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with these arguments, in a process whose Triton compiles."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_plans_that_a_call_may_ship_with_do_not_spill() -> None:
    """Tiles that the rule does not choose for the cases above, but may for others, where they once spilled."""
    done = _run(str(Path(__file__).with_name("shipped.py")))
    rows = [line.split() for line in done.stdout.splitlines()]
    assert {(target, which) for target, which, *_ in rows} == {
        *(("sm_90", which) for which in ("dgrad", "wgrad")),
        *(("sm_100", "wgrad"), ("sm_120", "wgrad"), ("sm_86", "fprop_pool"), ("sm_80", "dgrad")),
        *(("sm_80", "fprop_pool"), ("sm_80", "wgrad"), ("sm_100", "fprop")),
    }, done.stderr[-2000:]
    assert not [row for row in rows if row[-1] != "0"]


def test_registers_are_named_for_a_program_that_would_spill() -> None:
    """A small tile of pooled half precision on sm_80 keeps 8 bytes, to make room for one more program."""
    script = """
from unittest.mock import patch
from bench.machine_code.compile import compile_launch
from bench.machine_code.plans import jobs
from bench.machine_code.jobs import tile_of

tile = {"BLOCK_M": 32, "BLOCK_N": 16, "BLOCK_K": 32}
found = [job.launch for job in jobs("sm_80", "float16", ("fprop_pool",)) if job.case == "fprop_pool 256-128 3x3/2"]
launch = next(launch for launch in found if tile.items() <= tile_of(launch).items())
named = compile_launch(launch, "sm_80")
with patch("bench.machine_code.compile.settle", lambda options, make, usage: (options, make(options))):
    given = compile_launch(launch, "sm_80")
print("STACK", named.stack, named.maxnreg or 0, named.registers, given.stack, given.maxnreg)
"""
    done = _run("-c", script)
    assert "STACK" in done.stdout, done.stderr[-2000:]
    *counts, given = done.stdout.split()[1:]
    stack, named, registers, before = map(int, counts)
    assert stack == 0 and registers <= 96 and given == "None"
    if version("triton") == "3.7.1":
        assert 64 < named <= 96 and before > 0


def test_a_spill_is_noticed(tmp_path: Path) -> None:
    """The reader of machine code sees a spill where there is one: 1024 live values in a program of one warp."""
    script = """
import triton, triton.language as tl
from bench.machine_code.compile import compile_launch
from bench.machine_code.read import read
from kernels.common.launch import Launch
import torch

@triton.jit
def spilling(x_ptr, y_ptr, BLOCK: tl.constexpr):
    o = tl.arange(0, BLOCK)
    b_a = tl.load(x_ptr + o)
    b_b = tl.load(x_ptr + BLOCK + o)
    tl.debug_barrier()
    tl.store(y_ptr + o, b_b)
    tl.debug_barrier()
    tl.store(y_ptr + BLOCK + o, b_a * b_b)

x = torch.empty(4)
launch = Launch(spilling, 1, {"x_ptr": x, "y_ptr": x, "BLOCK": 16384}, {"num_warps": 1, "num_stages": 1})
print("STACK", read(compile_launch(launch, "sm_90")).stack)
"""
    file = tmp_path / "spilling.py"
    file.write_text(script)
    done = _run(str(file))
    assert "STACK" in done.stdout, done.stderr[-2000:]
    assert int(done.stdout.split("STACK")[1]) > 0
