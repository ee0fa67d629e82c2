"""Every example and every block of Python in the README and the docs runs; the API pages say what the code says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").glob("*.md") if "template" not in p.name)]
BLOCKS = [
    (f"{page.name}:{i}", text)
    for page in PAGES
    for i, text in enumerate(re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))
]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(where: Path, *command: str) -> str:
    """The output of a Python process that finds this checkout but stands elsewhere."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=where, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path, tmp_path: Path) -> None:
    assert run(tmp_path, str(example))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3 and any(name.startswith("README") for name, _ in BLOCKS)


@pytest.mark.parametrize(("name", "text"), BLOCKS, ids=[name for name, _ in BLOCKS])
def test_block(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "block.py").write_text(text)
    run(tmp_path, "block.py")


def test_the_api_pages_are_up_to_date(tmp_path: Path) -> None:
    assert "up to date" in run(tmp_path, str(ROOT / "tools" / "make_docs.py"), "--check")
