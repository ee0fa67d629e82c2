"""The steps on a card, most doubtful claims first.

Correctness; the plans nobody has timed, side by side; headline rows; the tuned table; then what can wait: cold start,
rivals, all rows, the memory checker. Three calls of nine minutes settle it up to the table.
"""

from __future__ import annotations

import collections
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.facts import ROOT
from bench.gpu import BROKEN, LEAST_SECONDS, MORE, Outcome, Step, Visit, child, tail, training, wait
from bench.gpu.pytest_rows import recorded

TESTS = "tests/kernels"
# Compilation on the host is most of a test's time on a card, so several processes share it.
SHARDS = max(1, min(8, (os.cpu_count() or 2) // 2))
GRACE = 20.0
# The small cases judged, not timed.
SMALL = ("-m", "bench", "run", "--set", "smoke", "--check", "--providers", "ours", "ours_fused", "--out", os.devnull)
HEADLINE = ("ours", "ours_fused", "eager_graph", "ours_graph", "cudnn_fused")
RIVALS = ("ours", "ours_fused", "ours_fused_graph", "compile", "compile_reduce", "compile_max", "flaggems")


def correctness(visit: Visit, seconds: float) -> Outcome:
    """The kernels' test suite on the card, in shards; a shard whose process dies is started again without that test."""
    path, end = visit.folder / "tests.jsonl", time.monotonic() + seconds
    path.parent.mkdir(parents=True, exist_ok=True)
    codes: list[int | None] = [BROKEN] * SHARDS
    log = visit.folder / "logs" / "correctness.log"
    while any(code not in (0, 1, 5, MORE) for code in codes) and end - time.monotonic() > LEAST_SECONDS:
        left = end - time.monotonic()
        again = [i for i, code in enumerate(codes) if code not in (0, 1, 5, MORE)]
        running = {i: child(_pytest(path, i, max(5.0, left - GRACE)), log) for i in again}
        for i, process in running.items():
            codes[i] = wait(process, end - time.monotonic())
        if all(code in (2, 3, 4) for code in codes) and not recorded(path):
            return Outcome(False, False, f"pytest could not start: {tail(log)}")
    _lost(path)
    bad = {"failed", "lost"} & set(recorded(path).values())
    return Outcome(all(code in (0, 1, 5) for code in codes), not bad, summary(path))


def _pytest(path: Path, shard: int, seconds: float) -> list[str]:
    # The root is named and the file's name tied to its option: pytest would look for its root near any path it sees.
    plugin = ["--rootdir", str(ROOT), "-p", "bench.gpu.pytest_rows", f"--rows={path}", f"--shard={shard}/{SHARDS}"]
    quiet = ["-q", "--tb=short", "-p", "no:cacheprovider", "--stop-after", str(round(seconds))]
    return [sys.executable, "-m", "pytest", TESTS, *plugin, *quiet]


def _lost(path: Path) -> None:
    """A test that started and never ended killed or blocked its process: that is its outcome."""
    lost = [test for test, outcome in recorded(path).items() if outcome == "started"]
    with path.open("a") as file:
        for test in lost:
            reason = "its process died or was stopped while it ran"
            file.write(json.dumps({"test": test, "outcome": "lost", "reason": reason}) + "\n")


def summary(path: Path) -> str:
    """Counts by outcome, and the names of what did not pass."""
    outcomes = recorded(path)
    counts = collections.Counter(outcomes.values())
    bad = [test for test, outcome in outcomes.items() if outcome in ("failed", "lost")]
    said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "no test ran"
    return said + (f"; not passed: {' '.join(bad[:12])}{' ...' if len(bad) > 12 else ''}" if bad else "")


def rows(name: str, *arguments: str) -> Step:
    """A step that is `bench run` with these arguments into its own file; a child that dies is started again."""

    def work(visit: Visit, seconds: float) -> Outcome:
        path, log = visit.folder / f"{name}.jsonl", visit.folder / "logs" / f"{name}.log"
        end = time.monotonic() + seconds
        code: int | None = BROKEN
        while code not in (0, 1, 2, MORE) and end - time.monotonic() > LEAST_SECONDS:
            left = end - time.monotonic()
            more = ["--resume", "--minutes", str(max(5.0, left - 2 * GRACE) / 60), "--out", str(path)]
            command = [sys.executable, "-m", "bench", "run", "--device", visit.device, *arguments, *more]
            code = wait(child([*command, "--commit", visit.commit], log), left)
        return Outcome(code in (0, 1), code in (0, MORE, None), f"{name}.jsonl, exit code {code}: {tail(log, 2)}")

    share = {"headline": 0.9, "rivals": 0.6}.get(name, 0.7)
    dry = ["-m", "bench", "run", "--device", "cpu", *arguments[:2], "--list"]
    return Step(name, share, work, (*SMALL, "--device", "cpu", "--interpret") if name == "headline" else dry)


def cold(visit: Visit, seconds: float) -> Outcome:
    """Cold start and memory, from fresh processes."""
    log = visit.folder / "logs" / "cold.log"
    command = ["-m", "bench", "cold", "--device", visit.device, "--commit", visit.commit]
    code = wait(child([sys.executable, *command, "--out", str(visit.folder / "cold.jsonl")], log), seconds)
    return Outcome(code == 0, code in (0, None), f"cold.jsonl, exit code {code}: {tail(log, 1)}")


def tuning(name: str, share: float, *arguments: str) -> Step:
    """A step that is `bench tune` into this visit's own folder: a table is looked at before it is shipped."""

    def work(visit: Visit, seconds: float) -> Outcome:
        log = visit.folder / "logs" / f"{name}.log"
        limit = max(5.0, seconds - 2 * GRACE)
        where = ["--out", str(visit.folder / "tuned"), "--commit", visit.commit, "--limit", str(round(limit))]
        code = wait(child([sys.executable, "-m", "bench", "tune", *arguments, *where], log), seconds)
        said = f"exit code {code}: {tail(log, 1)}; copy the table to kernels/tuned to use it"
        return Outcome(code == 0, code in (0, MORE, None), said)

    few = ["--set", "smoke", "--pass", "fprop", "--dtype", "fp16", "--batch", "32", "--compile", "1", "--limit", "20"]
    return Step(name, share, work, ("-m", "bench", "tune", "--dry-run", *few))


def accuracy(visit: Visit, seconds: float) -> Outcome:
    """Errors against float64 beside torch's; TF32 among them, which only a card has."""
    log, out = visit.folder / "logs" / "accuracy.log", visit.folder / "accuracy.md"
    command = ["-m", "bench", "accuracy", "--device", visit.device, "--out", str(out)]
    code = wait(child([sys.executable, *command], log), seconds)
    return Outcome(code in (0, 1), code in (0, None), f"accuracy.md, exit code {code}: {tail(log, 2)}")


def no_sanitizer() -> str | None:
    """Why the steps of compute-sanitizer cannot run, or None."""
    return None if sanitizer() else "compute-sanitizer is not on this machine"


def sanitizer() -> str | None:
    """The path of compute-sanitizer, or None."""
    usual = Path("/usr/local/cuda/bin/compute-sanitizer")
    return shutil.which("compute-sanitizer") or (str(usual) if usual.exists() else None)


def sanitized(tool: str) -> Callable[[Visit, float], Outcome]:
    """The small cases under a tool of compute-sanitizer, each allocation by itself so that an overrun is seen."""

    def work(visit: Visit, seconds: float) -> Outcome:
        log = visit.folder / "logs" / f"{tool}.log"
        checked = [str(sanitizer()), "--tool", tool, "--error-exitcode", "9", sys.executable, *SMALL]
        process = child([*checked, "--device", visit.device], log, {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})
        code = wait(process, seconds)
        return Outcome(code in (0, 1, 9), code in (0, None), f"exit code {code} (9: {tool} errors): {tail(log, 2)}")

    return work


def steps() -> list[Step]:
    """All of them, in order."""
    return [
        Step(
            "correctness",
            0.45,
            correctness,
            ("-m", "pytest", TESTS, "-q", "--collect-only", "-p", "bench.gpu.pytest_rows"),
        ),
        tuning("doubtful", 0.3, "--set", "doubtful", "--dtype", "fp16", "--batch", "256", "64"),
        rows("headline", "--set", "headline", "--providers", *HEADLINE, "--seconds", "0.6"),
        tuning("tune", 0.9),
        Step("cold", 0.5, cold, ("-m", "bench", "cold", "--device", "cpu", "--processes", "1", "--out", os.devnull)),
        Step("accuracy", 0.2, accuracy, ("-m", "bench", "accuracy", "--help")),
        rows("rivals", "--set", "headline", "--providers", *RIVALS),
        *training.steps(),
        rows("all", "--set", "all", "--seconds", "0.5"),
        Step("memcheck", 0.6, sanitized("memcheck"), (), no_sanitizer),
        Step("racecheck", 1.0, sanitized("racecheck"), (), no_sanitizer),
    ]
