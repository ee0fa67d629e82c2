"""A pytest plugin: every test's outcome as a line of JSON the moment it is known; what is recorded is not run again.

Options: --rows FILE, --shard I/N (of N processes this is the I-th), --stop-after SECONDS (no new test after that).
A test that leaves the CUDA context broken ends the process with code 4, since every later test would fail for it.
What a card is not needed for is left out: the CPU path of tests that have both. The time may end before the tests do,
so the most telling come first.
"""

from __future__ import annotations

import collections
import json
import os
import time
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.facts import FATAL
from bench.gpu import BROKEN, MORE

FIRST = ("replay/test_card.py", "lenet/test_card.py", "test_threads.py", "conv2d/test_tiles.py", "lenet/test_values.py")
"""What only a card can show, every tile that can ship, and the kernel of a whole network."""
LAST = ("test_conformance.py", "test_zoo.py", "test_compile.py", "test_fuzz.py")
"""Hundreds of kernels in few tests, each compiled for one call."""
STOPPED = "stopped"
"""The outcome of a test during which the time ended: the next call tries it again."""


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


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Every line of a file of outcomes; one that a kill has cut off is left out."""
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def recorded(path: Path) -> dict[str, str]:
    """test -> its last outcome; "started" for one that never ended."""
    return {row["test"]: row["outcome"] for row in lines(path)}


def shard_of(test: str, count: int) -> int:
    """Which of `count` processes runs a test."""
    return zlib.crc32(test.encode()) % count


def on_card(item: pytest.Item) -> bool:
    """Whether the item does not run on the CPU path."""
    parameters = getattr(item, "callspec", None)
    return parameters is None or str(parameters.params.get("path")) != "cpu"


def most_telling_first(items: list[pytest.Item]) -> list[pytest.Item]:
    """FIRST, the others, LAST; in each of them one case of every test, then a second one, and so on."""
    turns: collections.Counter[str] = collections.Counter()
    places: dict[pytest.Item, tuple[int, int]] = {}
    for item in items:
        test = item.nodeid.partition("[")[0]
        file = test.partition("::")[0]
        places[item] = (0 if file.endswith(FIRST) else 2 if file.endswith(LAST) else 1, turns[test])
        turns[test] += 1
    return sorted(items, key=lambda item: places[item])


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
        """Keeps this shard's tests that have no outcome yet, in order."""
        found = recorded(self.path)
        known = {test for test, outcome in found.items() if outcome != STOPPED}
        chosen = most_telling_first([item for item in items if on_card(item)])
        shard = [item for item in chosen if shard_of(item.nodeid, self.count) == self.index]
        items[:] = [item for item in shard if item.nodeid not in known]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be read is a failure, and no reason to leave out the others."""
        if report.failed and self.index == 0:
            self.write(test=report.nodeid, outcome="failed", reason=str(report.longrepr)[-600:])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Records one test, or ends the session when the time is over."""
        if time.monotonic() >= self.end:
            self.left_over = True
            item.session.shouldstop = "time is over"
        self.outcome = {"test": item.nodeid, "outcome": "started", "seconds": 0.0, "at": time.time()}
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
