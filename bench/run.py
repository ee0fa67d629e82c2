"""One case through: contenders prepared, judged, timed, rows yielded."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from bench.cases import Case
from bench.clock import Clock
from bench.gate import Expected, Verdict, expected, judge
from bench.launches import launches_of
from bench.limits import Limits, work_of
from bench.measure import Timing, measure
from bench.problem import Problem, problem
from bench.providers import FIRST, Contender, Provider
from bench.ratio import ratio
from bench.rows import Row

UNITS = 1e6
# Inputs in turn: enough that a call does not find its input in the last-level cache, few enough to fit in memory.
CACHE_BYTES, MAX_COPIES = 32 << 20, 8


def set_precision(precision: str) -> None:
    """The same rule for everybody: TF32 only where the case says so, cuDNN's search on."""
    torch.backends.cudnn.benchmark = True
    # 0: cuDNN may try every algorithm it has.
    torch.backends.cudnn.benchmark_limit = 0
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"


def copies(case: Case, device: torch.device) -> int:
    """How many inputs take turns. On CUDA the clock flushes the cache instead."""
    if device.type == "cuda":
        return 1
    image = case.layer.c * case.layer.h * case.layer.w if case.layer else 28 * 28
    return max(1, min(MAX_COPIES, 2 * CACHE_BYTES // (4 * image * case.batch)))


def one_line(error: BaseException) -> str:
    """The start of an error's message, for a row."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def row_of(case: Case, provider: str, layout: str, path: str, **more: Any) -> Row:
    """The fields that every row of a case has."""
    return {
        "case": case.name,
        "network": case.network,
        "op": case.op,
        "work": case.work,
        "batch": case.batch,
        "precision": case.precision,
        "provider": provider,
        "layout": layout,
        "path": path,
        **more,
    }


def prepared(made: Problem, providers: Sequence[Provider], refused: list[Row]) -> Iterator[Contender]:
    """The contenders that can run the case; the others become rows with the reason."""
    for provider in providers:
        reason = provider.reason(made.case, made.device)
        if reason is not None:
            continue
        for layout in provider.layouts(made.case, made.device):
            try:
                yield provider.prepare(made, layout)
            except Exception as error:
                refused.append(
                    row_of(made.case, provider.NAME, layout, "", metric="wall", status="failed", reason=one_line(error))
                )


def verdict_on(
    contender: Contender, made: Problem, reference: Sequence[Expected], torchs: Verdict | None
) -> tuple[str, Verdict]:
    """("ok" | "wrong" | "failed", verdict) from one call on the first input."""
    try:
        with contender.scope():
            results = contender.step(0)
        verdict = judge(made, results, reference, torchs)
    except Exception as error:
        return "failed", Verdict(False, float("inf"), one_line(error))
    return ("ok" if verdict.ok else "wrong"), verdict


def run_case(
    case: Case,
    device: torch.device,
    providers: Sequence[Provider],
    clocks: Sequence[Clock],
    limits: Limits | None,
    seconds: float,
    time_it: bool = True,
) -> Iterator[Row]:
    """The case's rows: for each contender a verdict, and a time only for those whose results are right.

    seconds: what the timing of all contenders by one clock may take. time_it: False for the verdicts alone.
    """
    set_precision(case.precision)
    made = problem(case, device, copies(case, device))
    reference = expected(made)
    rows: list[Row] = []
    right: list[tuple[Contender, Verdict]] = []
    torchs_verdict: Verdict | None = None
    for contender in prepared(made, providers, rows):
        status, verdict = verdict_on(contender, made, reference, torchs_verdict)
        if status == "ok":
            right.append((contender, verdict))
            if contender.provider == FIRST and torchs_verdict is None:
                torchs_verdict = verdict
        if status != "ok" or not time_it:
            about = {"status": status, "error": verdict.error, "reason": verdict.reason}
            rows.append(row_of(case, contender.provider, contender.layout, contender.path, metric="wall", **about))
    del reference
    yield from rows
    if not (right and time_it):
        return
    random.Random(case.name).shuffle(right)
    started = {c.label: launches_of(c).as_dict() if device.type == "cuda" else {} for c, _ in right}
    for clock in clocks:
        timings = measure([contender for contender, _ in right], clock, seconds)
        torchs = [timing for (c, _), timing in zip(right, timings, strict=True) if c.provider == FIRST]
        best = min(torchs, key=_median, default=None)
        for (contender, verdict), timing in zip(right, timings, strict=True):
            row = timed_row(case, contender, verdict, timing, clock, limits)
            row |= {} if best is None else against(best, timing)
            yield row | started[contender.label] | {"inputs": len(made.inputs)}


def _median(timing: Timing) -> float:
    return timing.median


def against(torchs: Timing, timing: Timing) -> Row:
    """How many times faster than torch's better layout, from the rounds in which both had their turn."""
    found = ratio(list(zip(timing.samples, torchs.samples, strict=True)))
    return {"ratio": round(found.ratio, 4), "ratio_low": round(found.low, 4), "ratio_high": round(found.high, 4)}


def timed_row(
    case: Case,
    contender: Contender,
    verdict: Verdict,
    timing: Timing,
    clock: Clock,
    limits: Limits | None,
) -> Row:
    """A time with its spread and its share of the machine's limit. Times in microseconds."""
    row = row_of(case, contender.provider, contender.layout, contender.path, metric=clock.metric, status="ok")
    row |= {
        "value": round(timing.median * UNITS, 3),
        "unit": "us",
        "low": round(timing.quantile(0.1) * UNITS, 3),
        "high": round(timing.quantile(0.9) * UNITS, 3),
        "spread": round(timing.spread, 4),
        "runs": len(timing.samples),
        "calls": timing.calls,
        "cache": clock.cache,
        "disturbed": timing.disturbed,
        "error": verdict.error,
    }
    if limits is not None and clock.metric != "host":
        flops, size = work_of(case)
        least, bound = limits.seconds(flops, size, case.precision)
        row |= {
            "flops": flops,
            "bytes": size,
            "limit": round(least * UNITS, 3),
            "bound": bound,
            "share": round(least / timing.median, 4),
        }
    return row
