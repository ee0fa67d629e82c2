"""The page "is it faster for me?" counts and orders what the rows say."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kernels.tuned.bucket import Bucket
from kernels.tuned.table import Entry, Table, Times, write

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "tools" / "make_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(case: str, provider: str, value: float, **more: Any) -> dict[str, Any]:
    """A row as `bench run` writes it."""
    same = {"op": "conv2d", "work": "inference", "precision": "fp32", "layout": "contiguous", "metric": "wall"}
    about = {"device": "Some CPU", "kind": "cpu", "threads": 1, "status": "ok", "versions": {"torch": "2"}}
    return {"case": case, "provider": provider, "value": value, **same, **about, **more}


def test_counts_and_order(tool: ModuleType, tmp_path: Path) -> None:
    rows = []
    for case, ratio in (("a", 2.0), ("b", 1.0), ("c", 0.5)):
        rows.append(row(case, "eager", 10.0, ratio=1.0, ratio_low=1.0, ratio_high=1.0))
        rows.append(row(case, "ours", 10 / ratio, ratio=ratio, ratio_low=0.99 * ratio, ratio_high=1.01 * ratio))
    folder = tmp_path / "some-cpu"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    page = tool.faster(tmp_path)
    assert "## Some CPU" in page
    assert "| conv2d | inference | fp32 | 3 | 1 | 1 | 1 | 1.00 | 0.50 | 2.00 |" in page
    losses, gains = page.split("### Largest losses")[1].split("### Largest gains")
    assert "| c | 20 µs | 10 µs | 0.50 |" in losses.splitlines()[4]
    assert "| a | 5 µs | 10 µs | 2.00 |" in gains.splitlines()[4]


def test_without_rows(tool: ModuleType, tmp_path: Path) -> None:
    assert "No rows have been measured yet" in tool.faster(tmp_path)


def test_tuned_tables_are_on_the_page(tool: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "some-cpu"
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").write_text(json.dumps(row("a", "eager", 1.0)) + "\n")
    key = Bucket("fprop", "half", 64, 64, 1, 3, 3, (1, 1), (1, 1), 16, 5)
    slower = Bucket("fprop", "half", 32, 64, 1, 3, 3, (1, 1), (1, 1), 16, 5)
    times = {key: Times(10.0, 20.0), slower: Times(10.0, 8.0)}
    entries = {bucket: Entry(None, {"nhwc": {"conv2d": pair}}) for bucket, pair in times.items()}
    tuned = tmp_path / "tuned"
    write(tuned / "some-card.json", Table("Some Card", entries, {}))
    page = tool.faster(tmp_path / "results", tuned)
    assert "## Some Card, tuned" in page
    assert "| conv2d | half | 2 | 1 | 1.40 | 0.80 | 2.00 |" in page
    assert "No card has been tuned yet" in tool.faster(tmp_path / "results", tmp_path / "none")
