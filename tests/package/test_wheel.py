"""What is published: source distribution and wheel, installed apart from the checkout and used there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP = ("kernels", "cnn", "bench")
FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "CHANGELOG.md")
NO_COMPILER = {"CC": "false", "CXX": "false"}

pytestmark = pytest.mark.skipif(
    find_spec("build") is None or find_spec("setuptools") is None, reason="build or setuptools is not installed"
)

SMOKE = """
import sys, pathlib, pkgutil, importlib
import torch, kernels
from kernels.cpu import native
home = pathlib.Path(kernels.__file__).parent
assert str(home).startswith(sys.argv[1]), home
assert (home / "py.typed").exists()
assert (native.KERNELS is not None) == (sys.argv[2] == "compiled"), native.REASON
model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
x = torch.randn(2, 1, 12, 12)
ours = kernels.convert(model)
torch.testing.assert_close(ours(x), model(x))
ours(x).sum().backward()
print(kernels.report(ours))
print(kernels.explain(ours, x))
for package in ("kernels", "cnn", "bench"):
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not found.name.endswith(("__main__", "._native", "pytest_rows")):
            importlib.import_module(found.name)
print("smoke test passed")
"""


def run(*command: str, where: Path, **environment: str) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(
        command, cwd=where, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def sources(where: Path) -> Path:
    """A copy of what the build reads, without anything built before."""
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", "results")
    for name in TOP:
        shutil.copytree(ROOT / name, where / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, where / name)
    return where


def install_and_use(wheel: Path, where: Path, tier: str) -> None:
    """Install the wheel alone into a folder, and use it from another."""
    target, elsewhere = where / "installed", where / "elsewhere"
    elsewhere.mkdir()
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target))
    run(*pip, str(wheel), where=elsewhere)
    out = run(sys.executable, "-c", SMOKE, str(target), tier, where=elsewhere, PYTHONPATH=str(target))
    assert "smoke test passed" in out and "fused" in out
    for module in ("cnn", "bench"):
        assert "usage" in run(sys.executable, "-m", module, "--help", where=elsewhere, PYTHONPATH=str(target))


def test_wheel_from_the_source_distribution(tmp_path: Path) -> None:
    tree = sources(tmp_path)
    log = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", "out", where=tree)
    complaints = [line for line in log.splitlines() if re.search("warn|deprecat", line, re.IGNORECASE)]
    assert [c for c in complaints if "byte-compiling" not in c] == []
    (wheel,) = (tree / "out").glob("*.whl")
    (source,) = (tree / "out").glob("*.tar.gz")
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None and f"-{version[1]}-" in wheel.name and f"-{version[1]}.tar" in source.name
    names = zipfile.ZipFile(wheel).namelist()
    packaged = {n for n in names if n.endswith(".py")}
    assert packaged == {str(p.relative_to(tree)) for top in TOP for p in (tree / top).rglob("*.py")}
    others = {n.split("/")[0] for n in names if ".dist-info" not in n}
    assert others == set(TOP) and not any("csrc" in n for n in names)
    has_compiler = shutil.which(os.environ.get("CXX", "c++")) is not None
    install_and_use(wheel, tmp_path, "compiled" if has_compiler else "torch")


def test_wheel_without_a_compiler(tmp_path: Path) -> None:
    tree = sources(tmp_path)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "out", where=tree, **NO_COMPILER)
    (wheel,) = (tree / "out").glob("*.whl")
    assert not any(name.endswith(".so") for name in zipfile.ZipFile(wheel).namelist())
    install_and_use(wheel, tmp_path, "torch")


def test_the_changelog_begins_with_the_version() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    heading = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert version is not None and heading is not None and version[1] == heading[1]
