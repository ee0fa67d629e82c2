"""What the README tells a reader to type exists, and its example runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = ["README.md", "CONTRIBUTING.md"]


def _code_lines(name: str) -> list[str]:
    """Commands in indented blocks, fenced shell blocks and inline code."""
    text = (ROOT / name).read_text()
    fenced = re.findall(r"```(?:sh|bash|console)\n(.*?)```", text, re.S)
    lines = [line for block in fenced for line in block.splitlines()]
    lines += [line.strip() for line in re.findall(r"^ {4}\S.*$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)]
    lines += re.findall(r"`([^`\n]+)`", text)
    return [line.split("#")[0].strip().removeprefix("$ ") for line in lines]


def _make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))


def _commands(name: str) -> list[list[str]]:
    found = []
    for line in _code_lines(name):
        for part in line.split("&&"):
            try:
                words = shlex.split(part)
            except ValueError:
                continue
            if words:
                found.append(words)
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_make_targets_exist(name: str) -> None:
    named = {w[1] for w in _commands(name) if w[0] == "make" and len(w) > 1 and w[1].isalpha()}
    assert named <= _make_targets()
    assert name != "README.md" or named >= {"demo", "test"}


def _module_runs() -> set[tuple[str, ...]]:
    """`python -m package command ...` -> (package, command)."""
    runs = set()
    for name in DOCUMENTS:
        for words in _commands(name):
            if "-m" in words and Path(words[0]).name.startswith("python"):
                rest = words[words.index("-m") + 1 :]
                if rest and rest[0].split(".")[0] in ("cnn", "bench", "tests"):
                    runs.add((rest[0], rest[1] if len(rest) > 1 and rest[1].isalpha() else ""))
    return runs


@pytest.mark.parametrize("module, command", sorted(_module_runs()), ids=" ".join)
def test_module_commands_have_help(module: str, command: str) -> None:
    words = [sys.executable, "-m", module, *([command] if command else []), "--help"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "usage" in result.stdout


def test_there_are_commands_to_check() -> None:
    assert ("tests.conformance", "") in _module_runs()


@pytest.mark.parametrize("index, block", [*enumerate(re.findall(r"```python\n(.*?)```", README, re.S))])
def test_python_examples_run(index: int, block: str, tmp_path: Path) -> None:
    """Each as a program of its own, from another directory."""
    file = tmp_path / "example.py"
    file.write_text(block)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, str(file)], cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=120
    )
    assert result.returncode == 0, result.stderr


def test_links_to_files_lead_somewhere() -> None:
    for name in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text()):
            assert (ROOT / target).exists(), f"{name} links to {target}"


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150
