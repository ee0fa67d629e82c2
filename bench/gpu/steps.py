"""The steps on a card, most doubtful claims first.

Of correctness what tells most; the plans nobody has timed, side by side; headline rows, those of the goals first; fused
blocks beside torch.compile's search; the tuned table; then what can wait: cold start, errors, the memory checker,
rivals, all rows. A step that does not end gives way to the next one and goes on in the next call: one call of 25
minutes, or three of nine, are meant to settle it up to the table.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.gpu import BROKEN, LEAST_SECONDS, MORE, Outcome, Step, Visit, child, tail, training, wait
from bench.gpu.shards import TESTS, correctness

GRACE = 20.0
# The small cases judged, not timed.
SMALL = ("-m", "bench", "run", "--set", "smoke", "--check", "--providers", "ours", "ours_fused", "--out", os.devnull)
HEADLINE = ("ours", "ours_fused", "eager_graph", "ours_graph", "cudnn_fused")
RIVALS = ("ours", "ours_fused", "ours_fused_graph", "compile", "compile_reduce", "compile_max", "flaggems")


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

    share = {"headline": 0.75, "searched": 0.5, "rivals": 0.6}.get(name, 0.7)
    listed = ("-m", "bench", "run", "--device", "cpu", *arguments[:2], "--list")
    dry = (*SMALL, "--device", "cpu", "--interpret") if name == "headline" else listed
    return Step(name, share, work, dry, least=60.0)


def cold(visit: Visit, seconds: float) -> Outcome:
    """Cold start and memory, from fresh processes."""
    log = visit.folder / "logs" / "cold.log"
    command = ["-m", "bench", "cold", "--device", visit.device, "--processes", "3", "--commit", visit.commit]
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
    return Step(name, share, work, ("-m", "bench", "tune", "--dry-run", *few), least=90.0)


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
        log, end = visit.folder / "logs" / f"{tool}.log", time.monotonic() + seconds
        plain = [sys.executable, *SMALL, "--device", visit.device]
        # Without the tool first: the compiler's own processes are slow under it.
        wait(child(plain, log), seconds / 2)
        checked = [str(sanitizer()), "--tool", tool, "--error-exitcode", "9", *plain]
        code = wait(child(checked, log, {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}), end - time.monotonic())
        return Outcome(code in (0, 1, 9), code in (0, None), f"exit code {code} (9: {tool} errors): {tail(log, 2)}")

    return work


def steps() -> list[Step]:
    """All of them, in order."""
    here = ("-m", "pytest", TESTS, "-q", "--collect-only", "-p", "bench.gpu.pytest_rows")
    once = ("-m", "bench", "cold", "--device", "cpu", "--processes", "1", "--out", os.devnull)
    return [
        Step("correctness", 0.3, correctness, here, least=60.0),
        tuning("doubtful", 0.3, "--set", "doubtful", "--dtype", "fp16", "--batch", "256", "64"),
        rows("headline", "--set", "headline", "--providers", *HEADLINE, "--seconds", "0.6"),
        # The goal over torch.compile: its search takes a minute a case.
        rows("searched", "--set", "goals", "--cases", "*/conv2d_relu_pool2d/*", "--providers", "ours", "compile_max"),
        tuning("tune", 0.6),
        Step("cold", 0.5, cold, once, least=120.0),
        Step("accuracy", 0.3, accuracy, ("-m", "bench", "accuracy", "--help"), least=60.0),
        Step("memcheck", 0.5, sanitized("memcheck"), (), no_sanitizer, least=120.0),
        rows("rivals", "--set", "headline", "--providers", *RIVALS),
        *training.steps(),
        rows("all", "--set", "all", "--seconds", "0.5"),
        Step("racecheck", 1.0, sanitized("racecheck"), (), no_sanitizer, least=120.0),
    ]
