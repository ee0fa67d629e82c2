"""Cold start and memory, each value from fresh processes: import, first call, first training step, peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from statistics import median
from typing import Any

from bench.facts import ROOT
from bench.rows import Row

PROVIDERS = ("eager", "ours")
# name in the child's answer: unit, factor
VALUES = {
    "import": ("ms", 1e3),
    "first call": ("ms", 1e3),
    "later call": ("ms", 1e3),
    "first training step": ("ms", 1e3),
    "later training step": ("ms", 1e3),
    "host memory": ("MiB", 1.0),
    "device memory": ("MiB", 1.0),
}


def child(provider: str, device: str, threads: int, cache: str) -> dict[str, float]:
    """One fresh process's answer. cache: the folder of compiled Triton kernels that it finds."""
    command = [sys.executable, "-m", "bench.cold_child", provider, device, str(threads)]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "TRITON_CACHE_DIR": cache, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise RuntimeError(
            f"{provider}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'no answer'}"
        )
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def cold_rows(device: str, threads: int, processes: int) -> Iterator[Row]:
    """Rows of `processes` fresh processes a provider, in turns; on CUDA also of one that finds no compiled kernel."""
    with tempfile.TemporaryDirectory() as cache:
        if device == "cuda":
            for provider in PROVIDERS:
                yield from _rows(provider, device, [child(provider, device, threads, cache)], ", nothing compiled yet")
        answers: dict[str, list[dict[str, float]]] = {provider: [] for provider in PROVIDERS}
        for _ in range(processes):
            for provider in PROVIDERS:
                answers[provider].append(child(provider, device, threads, cache))
    for provider in PROVIDERS:
        yield from _rows(provider, device, answers[provider], "")


def _rows(provider: str, device: str, answers: list[dict[str, float]], note: str) -> Iterator[Row]:
    for name, (unit, factor) in VALUES.items():
        found = sorted(answer[name] * factor for answer in answers if name in answer)
        if not found:
            continue
        path = {"eager": "torch", "ours": "Triton kernels" if device == "cuda" else "CPU path"}[provider]
        about: dict[str, Any] = {"provider": provider, "layout": "nchw", "path": path, "status": "ok"}
        middle = median(found)
        values = {"value": round(middle, 3), "unit": unit, "low": round(found[0], 3), "high": round(found[-1], 3)}
        spread = round((found[-1] - found[0]) / 2 / middle, 4) if middle else 0.0
        metric = "memory" if unit == "MiB" else "cold"
        yield {"case": f"cold/{name}{note}", "metric": metric, **about, **values, "spread": spread, "runs": len(found)}
