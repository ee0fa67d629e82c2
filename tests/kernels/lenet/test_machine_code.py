"""The LeNet kernels compiled for three generations of cards: no spill, two programs a multiprocessor, tensor cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.lenet.predicted import INFERENCE

ROOT = Path(__file__).parents[3]
PRODUCTS = {"forward_kernel", "forward_kernel_keep", "backward_kernel", "wgrad_kernel"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "target, choices",
    [
        ("sm_80", ["float32:16:max-relu", "float32:16:avg-tanh"]),
        ("sm_90", ["flags:16:max-relu", "float16:1:max-relu"]),
        ("sm_100", ["flags:16:max-relu"]),
    ],
    ids=["sm_80", "sm_90", "sm_100"],
)
def test_the_kernels_on(target: str, choices: list[str]) -> None:
    """flags: torch's default for float32, convolutions in TF32 and linear layers with float32's accuracy."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(Path(__file__).with_name("compiled.py")), target, *choices]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["kernel"] for row in rows} == PRODUCTS | {"pack_kernel", "reduce_kernel"}
    for row in rows:
        about = f"{row['kernel']} {row['arithmetic']} {row['images']} {row['style']}"
        assert row["stack"] == 0, f"{about} spills {row['stack']} bytes"
        # Kernels with tcgen05 claim their tensor memory by an atomic of the multiprocessor's own.
        assert "atomic" not in row["total"] or "tcgen05" in row["total"], f"{about}: sums in no fixed order"
        if row["images"] == 16:
            assert row["resident"] >= 2, f"{about}: {row['registers']} registers, {row['shared']} bytes shared"
        if row["kernel"] in PRODUCTS:
            assert sum(row["total"].get(kind, 0) for kind in ("mma", "wgmma", "tcgen05")) > 0, about


@pytest.mark.slow
def test_the_readme_has_the_times_that_the_command_predicts() -> None:
    """KernelBench's form of the network, within 20 %: the code of Triton 3.6 differs by up to 16 % from that of 3.7."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bench", "inspect", "--lenet", "lenet_kernelbench"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    row = done.stdout.splitlines()[-1]
    label = row.split(" us |")[0].rsplit("|", 1)[0]
    lines = (ROOT / "kernels" / "lenet" / "README.md").read_text().splitlines()
    written = next(line for line in lines if line.startswith(label))
    assert len(microseconds(row)) == 6
    assert microseconds(row) == pytest.approx(microseconds(written), rel=0.2)


def test_what_explain_predicts_from_is_the_readme_table() -> None:
    lines = (ROOT / "kernels" / "lenet" / "README.md").read_text().splitlines()
    rows = [line.split("|") for line in lines if line.startswith("| forward | ")]
    for kind, column in (("float32", 3), ("tf32", 4), ("half", 5)):
        written = {int(row[2]): int(row[column].split("**")[1].replace(",", "")) for row in rows}
        assert written == INFERENCE[kind]


def microseconds(row: str) -> list[float]:
    """The times in a row of a table."""
    return [float(cell.split()[0].replace(",", "")) for cell in row.split(" | ")[1:]]
