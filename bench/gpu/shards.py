"""The kernels' tests on a card: in shards, each a process of its own, started again when it dies."""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from bench.facts import ROOT
from bench.gpu import LEAST_SECONDS, MORE, Outcome, Visit, child, tail, wait
from bench.gpu.pytest_rows import STOPPED, lines, recorded, shard_of

TESTS = "tests/kernels"
# What runs or compiles elsewhere as well as beside a card.
ELSEWHERE = ("tests/kernels/cpu", "tests/kernels/machine_code")
# Compilation on the host is most of a test's time on a card, so several processes share it.
SHARDS = max(1, min(12, (os.cpu_count() or 2) * 3 // 4))
# Seconds before the end in which no test starts.
GRACE = 20.0
# A test that has run for so long when it is stopped hangs.
PATIENCE = 90.0
# Random cases a test: on a card each costs the compilation of several kernels, which the interpreter does not know.
FUZZ = {"FUZZ_EXAMPLES": "25"}
# pytest's own: all passed, some failed, none found.
ENDED = (0, 1, 5)


def correctness(visit: Visit, seconds: float) -> Outcome:
    """Every test whose outcome is not known yet; a shard whose process dies goes on without the test that killed it."""
    path, log, end = visit.folder / "tests.jsonl", visit.folder / "logs" / "correctness.log", time.monotonic() + seconds
    path.parent.mkdir(parents=True, exist_ok=True)

    def start(shard: int) -> tuple[subprocess.Popen[bytes], int]:
        left = end - time.monotonic()
        return child(_pytest(path, shard, max(5.0, left - GRACE)), log, FUZZ), len(recorded(path))

    running = {shard: start(shard) for shard in range(SHARDS)}
    codes: dict[int, int | None] = {}
    while running:
        for shard, (process, before) in list(running.items()):
            code = process.poll()
            if code is None and time.monotonic() < end:
                continue
            codes[shard] = wait(process, 0.0)
            _close(path, shard, stopped=code is None)
            del running[shard]
            dead = code not in (None, *ENDED, MORE) and len(recorded(path)) > before
            if dead and end - time.monotonic() > LEAST_SECONDS:
                running[shard] = start(shard)
        time.sleep(0.1)
    return _judged(path, codes, log)


def _judged(path: Path, codes: dict[int, int | None], log: Path) -> Outcome:
    outcomes = set(recorded(path).values())
    if not outcomes:
        return Outcome(False, False, f"pytest could not start: {tail(log)}")
    dead = [code for code in codes.values() if code not in (None, *ENDED, MORE)]
    said = summary(path) + (f"; {len(dead)} shards ended with code {dead[0]}: {tail(log)}" if dead else "")
    finished = all(code in ENDED for code in codes.values()) and STOPPED not in outcomes
    return Outcome(finished, not (dead or {"failed", "lost"} & outcomes), said)


def _pytest(path: Path, shard: int, seconds: float) -> list[str]:
    # The root is named and the file's name tied to its option: pytest would look for its root near any path it sees.
    plugin = ["--rootdir", str(ROOT), "-p", "bench.gpu.pytest_rows", f"--rows={path}", f"--shard={shard}/{SHARDS}"]
    quiet = ["-q", "--tb=short", "-p", "no:cacheprovider", "--stop-after", str(round(seconds))]
    which = [TESTS, "--continue-on-collection-errors", *(f"--ignore={folder}" for folder in ELSEWHERE)]
    return [sys.executable, "-m", "pytest", *which, *plugin, *quiet]


def _close(path: Path, shard: int, stopped: bool) -> None:
    """The outcome of the test that a shard was running: it killed its process or hangs, or it began too late."""
    last = {row["test"]: row for row in lines(path)}
    running = [row for row in last.values() if row["outcome"] == "started" and shard_of(row["test"], SHARDS) == shard]
    with path.open("a") as file:
        for row in running:
            late = stopped and time.time() - row["at"] < PATIENCE
            reason = "the time ended while it ran" if late else "its process died or was stopped while it ran"
            file.write(
                json.dumps({"test": row["test"], "outcome": STOPPED if late else "lost", "reason": reason}) + "\n"
            )


def summary(path: Path) -> str:
    """Counts by outcome, and the names of what did not pass."""
    outcomes = recorded(path)
    counts = collections.Counter(outcomes.values())
    bad = [test for test, outcome in outcomes.items() if outcome in ("failed", "lost")]
    said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "no test ran"
    return said + (f"; not passed: {' '.join(bad[:12])}{' ...' if len(bad) > 12 else ''}" if bad else "")
