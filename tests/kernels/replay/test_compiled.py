"""The launches of compiled kernels, in a process whose Triton compiles (for an H100, which need not be there)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.backend import HAS_TRITON

ROOT = Path(__file__).parents[3]


@pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")
def test_compiled_launches() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/kernels/replay/compiled.py"]
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
