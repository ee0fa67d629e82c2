"""Every kernel compiled for every card: no spills, within shared memory, tensor cores where there is a product."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
TARGETS = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120", "gfx942")
KERNELS = {
    "fprop_kernel",
    "fprop_pool_kernel",
    "dgrad_kernel",
    "wgrad_kernel",
    "dz_kernel",
    *(f"depthwise{layout}{tail}_kernel" for layout in ("", "_nchw") for tail in ("", "_wgrad")),
    *(f"direct_{name}_kernel" for name in ("fprop", "dgrad", "wgrad")),
    *(f"groups_{name}_kernel" for name in ("fprop", "wgrad")),
    *(f"blocks_{name}_kernel" for name in ("band", "fprop", "sum", "wgrad")),
    *("pack_kernel", "pack_two_kernel"),
    "patch_fprop_kernel",
    "rows_fprop_kernel",
    "rows_pack_kernel",
    "reduce_splits_kernel",
    *(f"{head}max_pool{tail}_kernel" for head in ("", "line_", "stride1_") for tail in ("", "_backward")),
    *(f"{name}_pool_kernel" for name in ("stride2", "stride1_avg", "avg", "global_avg", "global_max")),
    *(f"{name}_backward_kernel" for name in ("stride2_pool", "stride2_squares", "avg_pool", "global_pool")),
}
TMA = {"matmul_kernel", *(f"batch_{name}_kernel" for name in ("fprop", "fprop_pool", "dgrad", "wgrad"))}
HOPPER = {f"strips_{name}_kernel" for name in ("fprop", "fprop_pool", "wgrad")}


@cache
def inspect(
    target: str, dtypes: tuple[str, ...], directory: str, kernel: str = "", representative: bool = True, case: str = ""
) -> list[dict[str, Any]]:
    """Rows of `python -m bench inspect`, in a process whose Triton compiles."""
    file = Path(directory) / f"{target}-{'-'.join(dtypes)}-{kernel}-{case}.jsonl"
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bench", "inspect", kernel, "--arch", target, "--processes", "1"]
    command += ["--case", case] if case else []
    command += ["--representative"] if representative else []
    done = subprocess.run(
        [*command, "--dtype", *dtypes, "--json", str(file)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert file.exists(), done.stdout[-2000:] + done.stderr[-2000:]
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("machine_code"))


@pytest.mark.parametrize("target", TARGETS)
def test_every_kernel(target: str, directory: str) -> None:
    """One test a card, since compiling is what takes the time."""
    rows = inspect(target, ("float16", "float32"), directory)
    assert {row["kernel"] for row in rows} >= KERNELS | (TMA if target in ("sm_90", "sm_100") else set()) | (
        HOPPER if target == "sm_90" else set()
    )
    failed = [f"{row['kernel']} {row['case']} {row['dtype']}: {row['error']}" for row in rows if "error" in row]
    assert not failed, "\n".join(failed)
    spills = [f"{row['kernel']} {row['case']} {row['dtype']}: stack {row['stack']}" for row in rows if row["stack"]]
    assert not spills, "\n".join(spills)
    assert all(row["clean"] for row in rows), "a program takes more shared memory than the card has"
    _check_committed(target, rows)
    for row in (row for row in rows if row["dot"]):
        products = sum(row["total"].get(kind, 0) for kind in ("wgmma", "mma", "tcgen05"))
        assert products > 0, f"{row['kernel']} {row['case']} {row['dtype']} has no tensor-core instruction"
        assert "store" not in row["loop"], f"{row['kernel']} {row['case']}: more than the loop over K: {row['loop']}"
        if target == "sm_90":
            _check_hopper_loop(row)
    if target == "sm_90":
        _check_hopper_copies(rows)


def _check_committed(target: str, rows: list[dict[str, Any]]) -> None:
    """The committed table says what the compiler says, of every kernel whose text has not changed since."""
    from bench.machine_code import files

    path = files.FOLDER / f"{target}.jsonl"
    head, committed = files.read(path)
    again = f"out of date: run `python -m bench inspect --arch {target} --dtype float16 float32 --tables`"
    assert path.with_suffix(".md").read_text().count("\n|") == len(committed) + 2, again
    assert not [row for row in committed if not row["clean"]]
    if head["triton"] != version("triton"):
        return
    known = {_identity(row): row for row in committed}
    found = [(row, known[_identity(row)]) for row in rows if _identity(row) in known]
    assert found, again
    facts = ("registers", "stack", "shared", "num_warps", "total", "loop", "resident")
    wrong = [(row["kernel"], row["case"]) for row, old in found if any(row[fact] != old[fact] for fact in facts)]
    assert not wrong, f"{wrong} differ from {path.name}; {again}"


def _identity(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in ("source", "kernel", "case", "dtype", "layout", "tile"))


def _check_hopper_loop(row: dict[str, Any]) -> None:
    """TMA feeds wgmma from shared memory, and every asynchronous copy of a packed map is 16 bytes wide."""
    loop = row["loop"]
    if row["kernel"] in TMA | HOPPER:
        assert loop["tma_load"] >= 2
        assert "async_copy" not in loop
        # A box of several pixels is a matrix in registers only, which are loaded once for each block of K.
        several = row["tile"].get("BOX_ROWS", 1) * row["tile"].get("BOX_COLUMNS", 1) > 1 or row["kernel"] in HOPPER
        if row["dtype"] == "float16":
            most = loop["wgmma"] if several else 0
            assert loop.get("shared_load", 0) <= most, f"{row['kernel']} reads its operands into registers: {loop}"
    elif row["case"].startswith("conv3x3") and row["layout"] == "channels_last":
        assert loop["async_copy"] == loop["async_copy_16"], f"{row['kernel']} {row['case']}: {loop}"


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100"])
def test_float32_by_three_tf32_products(target: str, directory: str) -> None:
    """Every kernel that takes them, on the cards that do: clean, three products a step, each started anew."""
    rows = inspect(target, ("tf32x3",), directory)
    gather = {"fprop_kernel", "fprop_pool_kernel", "dgrad_kernel", "wgrad_kernel", "rows_wgrad_kernel"}
    tma = {"sm_80": set(), "sm_90": TMA, "sm_100": TMA - {"batch_fprop_pool_kernel"}}[target]
    assert {row["kernel"] for row in rows} == gather | tma
    bad = [row for row in rows if not row.get("clean")]
    assert not bad, [(row["kernel"], row["case"], row["tile"], row.get("stack"), row.get("error")) for row in bad]
    for row in rows:
        products = sum(row["loop"].get(kind, 0) for kind in ("wgmma", "mma", "tcgen05"))
        assert products >= 12 and not row["loop"].get("fma"), row
        assert row["loop"].get("tma_load", 0) >= 2 or row["kernel"] not in TMA, row


def _check_hopper_copies(rows: list[dict[str, Any]]) -> None:
    """What goes over a whole map of aligned rows or channels moves 16 bytes at a time; a part of a bias does not."""
    kernels = [row for row in rows if row["kernel"] in ("dz_kernel", "pack_kernel") and row["case"] == "conv3x3 64"]
    assert {(row["kernel"], row["dtype"], row["layout"]) for row in kernels} >= {
        ("dz_kernel", "float16", "channels_last"),
        ("dz_kernel", "float32", "nchw"),
        ("pack_kernel", "float32", "nchw"),
    }
    for row in kernels:
        total = row["total"]
        assert total["load"] == total["load_16"], row
        assert total["store"] == total["store_16"] + (row["kernel"] == "dz_kernel"), row
    parts = [row["total"] for row in rows if row["kernel"] == "reduce_splits_kernel"]
    assert parts and all(total["load"] == total["load_16"] for total in parts), parts


def test_pools_move_16_bytes_at_a_time(directory: str) -> None:
    """Maps of aligned rows on Hopper; what is narrower: what lies beside 16 bytes of a row, and one-byte codes."""
    rows = inspect("sm_90", ("float16",), directory, kernel="stride", representative=False)
    assert {(row["kernel"], row["layout"]) for row in rows} == {
        *((f"stride2_pool{way}_kernel", "nchw") for way in ("", "_backward")),
        *(("stride2_squares_backward_kernel", layout) for layout in ("nchw", "channels_last")),
        *((f"stride1_{name}_kernel", layout)
          for name in ("max_pool", "max_pool_backward", "avg_pool") for layout in ("nchw", "channels_last")),
    }  # fmt: skip
    for row in rows:
        if "ceil" in row["case"] or "odd" in row["case"]:  # rows of 28, 27 and 55 elements are not aligned
            continue
        total, backward = row["total"], "backward" in row["kernel"]
        last, codes = row["layout"] == "channels_last", row["case"].startswith("max")
        assert total["load_16"] == _wide_loads(row), row
        assert total["store_16"] == total["store"] - _narrow_stores(row), row
        if last:
            assert total["load"] == total["load_16"] * (2 if backward and codes else 1), row
        if row["kernel"].startswith("stride1") or last:
            assert "shared_load" not in total, row
        assert row["bound"] == "memory" or row["case"] == "maxpool5x5", row


def _wide_loads(row: dict[str, Any]) -> int:
    """Of a thread: in stride1 four rows and those of their windows, in channels_last with those beside them; else those
    of a square's windows."""
    of_three, last = "3x3" in row["case"], row["layout"] == "channels_last"
    if row["kernel"].startswith("stride1"):
        taps = 3 if of_three else 5
        return (4 + taps - 1) * ((taps + _pixels(row) - 1) if last else 1)
    if "backward" not in row["kernel"]:
        return 6 if of_three else 4
    return (4 if last else 2) if of_three else 1


def _pixels(row: dict[str, Any]) -> int:
    """Of a row that a thread of stride1 has in channels_last."""
    return 2 if row["case"] == "maxpool5x5" and "backward" in row["kernel"] else 1


def _narrow_stores(row: dict[str, Any]) -> int:
    """Codes, a store for every wide one of y."""
    coded = row["case"].startswith("max") and "backward" not in row["kernel"]
    return (4 if row["kernel"].startswith("stride1") else 1) if coded else 0


def test_depthwise_moves_16_bytes_at_a_time(directory: str) -> None:
    """3x3 on aligned rows on Hopper, where memory is the limit of every pass. In NCHW, of the two vectors beside a
    lane's own the compiler reads no more than the element of each that is used; the weights are single numbers."""
    rows = inspect("sm_90", ("float16",), directory, kernel="depthwise", representative=False, case="depthwise3x3 96")
    rows = [row for row in rows if "dilated" not in row["case"]]
    assert sorted(row["layout"] for row in rows) == ["channels_last"] * 3 + ["nchw"] * 3
    for row in rows:
        total, wgrad, nchw = row["total"], "wgrad" in row["kernel"], row["layout"] == "nchw"
        assert row["bound"] == "memory" and row["stack"] == 0, row
        assert wgrad or total["store_16"] == total["store"] == 4, row
        single = 6 * 2 + (0 if wgrad else 9 + (total["load"] == 28)) if nchw else 0  # beside six rows; weights and bias
        assert total["load"] - total["load_16"] == single, row


def test_float64_and_bfloat16_are_clean_on_hopper(directory: str) -> None:
    rows = inspect("sm_90", ("float64", "bfloat16"), directory)
    assert {row["dtype"] for row in rows} == {"float64", "bfloat16"}
    bad = [row for row in rows if not row.get("clean")]
    assert not bad, [(row["kernel"], row["case"], row["dtype"], row.get("stack"), row.get("error")) for row in bad]
