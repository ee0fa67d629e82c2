"""The names of tests: pytest's workers refuse to share a suite whose names differ from process to process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_another_process_names_every_test_alike(request: pytest.FixtureRequest) -> None:
    """A time stamp, an address or a set's order in a parameter without an id would name it anew in each."""
    here = defaultdict(set)
    for item in request.session.items:
        here[item.nodeid.partition("::")[0]].add(item.nodeid)
    files = sorted(here)
    asked = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    # Another order of sets, another second: whatever a name must not hold.
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    found = subprocess.run([*asked, *files], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-2000:]
    there = {line for line in found.stdout.splitlines() if "::" in line}
    ours = set().union(*here.values())
    assert not ours - there, sorted(ours - there)[:5]
