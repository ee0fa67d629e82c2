"""A pytest plugin: every test's outcome as a line of JSON the moment it is known; what is recorded is not run again.

Options: --rows FILE, --shard I/N (of N processes this is the I-th), --stop-after SECONDS (no new test after that).
A test that leaves the CUDA context broken ends the process with code 4, since every later test would fail for it.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from bench.facts import FATAL
from bench.gpu import BROKEN, MORE


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plugin's options."""
    group = parser.getgroup("rows")
    group.addoption("--rows", type=Path, help="file of outcomes, one JSON line a test")
    group.addoption("--shard", default="0/1", help="I/N: run the I-th of N parts")
    group.addoption("--stop-after", type=float, default=float("inf"), help="seconds after which no test starts")


def pytest_configure(config: pytest.Config) -> None:
    """The recorder works only where a file is given."""
    if config.getoption("--rows"):
        config.pluginmanager.register(Recorder(config), "bench-rows")


def recorded(path: Path) -> dict[str, str]:
    """test -> its last outcome; "started" for one that never ended."""
    if not path.exists():
        return {}
    found: dict[str, str] = {}
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "test" in row:
            found[row["test"]] = row["outcome"]
    return found


class Recorder:
    """Chooses this process's tests, writes their outcomes, stops in time."""

    def __init__(self, config: pytest.Config) -> None:
        self.path: Path = config.getoption("--rows")
        index, count = config.getoption("--shard").split("/")
        self.index, self.count = int(index), int(count)
        self.end = time.monotonic() + config.getoption("--stop-after")
        self.outcome: dict[str, Any] = {}
        self.left_over = False

    def write(self, **row: Any) -> None:
        """One line in one write, so that several processes can share the file."""
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keeps this shard's tests that have no outcome yet; counts all of them for the driver."""
        if self.index == 0:
            self.write(collected=len(items))
        known = recorded(self.path)
        shard = [item for item in items if zlib.crc32(item.nodeid.encode()) % self.count == self.index]
        items[:] = [item for item in shard if item.nodeid not in known]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Records one test, or ends the session when the time is over."""
        if time.monotonic() >= self.end:
            self.left_over = True
            item.session.shouldstop = "time is over"
        self.outcome = {"test": item.nodeid, "outcome": "started", "seconds": 0.0}
        if not self.left_over:
            self.write(**self.outcome)
        result = yield
        if not self.left_over:
            self.write(**self.outcome)
            if any(text in self.outcome.get("reason", "") for text in FATAL):
                os._exit(BROKEN)
        return result

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """The protocol of a test that must not start any more still reaches this hook."""
        if self.left_over:
            pytest.skip("time is over")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The worst of set-up, call and tear-down is the test's outcome."""
        self.outcome["seconds"] = round(self.outcome["seconds"] + report.duration, 3)
        if report.failed:
            self.outcome |= {"outcome": "failed", "reason": str(report.longrepr)[-600:]}
        elif report.skipped and self.outcome["outcome"] == "started":
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.outcome |= {"outcome": "skipped", "reason": reason}
        elif report.when == "call" and report.passed and self.outcome["outcome"] == "started":
            self.outcome["outcome"] = "passed"

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Says by the exit code that there is more to do."""
        if self.left_over:
            session.exitstatus = MORE
