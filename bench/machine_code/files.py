"""The rows of `bench inspect` as files that are committed: JSON lines for tests, Markdown for people, one of a card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import triton

FOLDER = Path(__file__).parent / "tables"
HEAD = (
    "kernel",
    "case",
    "dtype",
    "layout",
    "tile",
    "warps",
    "stages",
    "registers",
    "stack",
    "shared",
    "programs/SM",
    "instructions",
    "step MFLOP",
    "step KB",
    "bound",
    "predicted us",
)
INTRO = """# Machine code of {target} ({card})

Written by `python -m bench inspect --arch {target} --tables` with triton {triton}; nothing was run.
A line for every kernel, dtype and plan of the calls in bench/machine_code/cases.py. Instructions are static counts of
the main loop, or of all where none is left, by kind (`async_copy_16` of the `async_copy` are 16 bytes wide). *bound*
and time are predicted by kernels/common/roofline.py for the {card}, not measured: memory, products (tensor cores),
issue (instructions) or latency. {target}.jsonl has the same rows with all counts.

"""


def order(row: dict[str, Any]) -> tuple[str, ...]:
    """By kernel, then by what it was compiled for."""
    return tuple(str(row[name]) for name in ("kernel", "dtype", "tile", "case", "layout"))


def lines(row: dict[str, Any]) -> list[str]:
    """A row's cells."""
    block = "x".join(str(value) for name, value in row["tile"].items() if name.startswith("BLOCK"))
    pixels = [str(value) for name, value in row["tile"].items() if name.startswith("BOX")]
    block += f" of {'x'.join(pixels)} pixels" if pixels not in ([], ["1", "1"]) else ""
    # A branch to itself ends every program.
    has_loop = row["loop"].get("all", 0) > 2
    counts = " ".join(f"{name} {count}" for name, count in row["loop" if has_loop else "total"].items())
    counts = counts if has_loop else f"no loop: {counts}"
    step = [f"{row['step_flops'] / 1e6:.2f}", f"{row['step_bytes'] / 1e3:.1f}"] if "step_flops" in row else ["", ""]
    options = [str(row["num_warps"]), str(row["tile"]["num_stages"])]
    resources = [str(row[name]) for name in ("registers", "stack", "shared", "resident")]
    where = [str(row[name]) for name in ("kernel", "case", "dtype", "layout")]
    return [*where, block, *options, *resources, counts, *step, row["bound"], str(row["predicted_us"])]


def markdown(target: str, card: str, rows: Sequence[dict[str, Any]]) -> str:
    """The page of one card."""
    table = [list(HEAD), ["---"] * len(HEAD), *(lines(row) for row in rows)]
    body = "\n".join("| " + " | ".join(cells) + " |" for cells in table)
    return INTRO.format(target=target, card=card, triton=triton.__version__) + body + "\n"


def write(folder: Path, target: str, card: str, rows: Sequence[dict[str, Any]]) -> None:
    """Both files of one card."""
    ordered = sorted(rows, key=order)
    folder.mkdir(parents=True, exist_ok=True)
    head = {"target": target, "triton": triton.__version__}
    text = "".join(json.dumps(row) + "\n" for row in [head, *ordered])
    (folder / f"{target}.jsonl").write_text(text)
    (folder / f"{target}.md").write_text(markdown(target, card, ordered))


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The head, which names Triton's version, and the rows of a JSON lines file."""
    head, *rows = (json.loads(line) for line in path.read_text().splitlines())
    return head, rows
