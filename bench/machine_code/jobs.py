"""What is compiled for which card, and the row of facts that comes of it: kernels x cases x targets, in processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from bench.machine_code.cases import CASES, flops, launches
from bench.machine_code.compile import CARDS, compile_launch
from bench.machine_code.read import Report, read
from kernels.common.launch import Launch, program_of
from kernels.common.precision import set_float32_products
from kernels.common.roofline import LIMITS, Code, predict
from kernels.common.steps import work_of_step
from kernels.conv2d.plans.plan import PASSES

DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
    "tf32x3": torch.float32,
}
"""float32 is TF32, as torch's flags are at first; tf32x3 its other form on tensor cores, where a plan takes it."""
_DOT_KERNELS = (
    "matmul_kernel",
    *(f"{head}{name}_kernel" for head in ("", "batch_", "strips_", "rows_", "groups_") for name in PASSES),
)


@dataclass(frozen=True)
class Job:
    """One launch to compile for one target."""

    target: str
    case: str
    dtype: str
    layout: str
    launch: Launch
    flops: float = 0.0


def jobs(targets: list[str], dtypes: list[str], kernel: str = "", case: str = "") -> list[Job]:
    """What to compile: every case in both layouts, filtered by parts of the kernel's and the case's name."""
    found = []
    for target in targets:
        for each in (c for c in CASES if case in c.name):
            for dtype in dtypes:
                for layout in ("nchw", "channels_last"):
                    with products(dtype):
                        recorded = list(launches(each, DTYPES[dtype], layout == "channels_last", CARDS[target]))
                    for launch in recorded:
                        three = launch.arguments.get("PRECISION") == "tf32x3"
                        if kernel in launch.kernel.__name__ and three == (dtype == "tf32x3"):
                            found.append(Job(target, each.name, dtype, layout, launch, flops(each)))
    return distinct(found)


@contextmanager
def products(precision: str) -> Iterator[None]:
    """torch's flag and this package's choice inside the block: float32 is TF32, but for "ieee" and "tf32x3"."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = precision not in ("ieee", "tf32x3")
    try:
        with set_float32_products("tf32x3" if precision == "tf32x3" else "fma"):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def representative(found: list[Job], each_plan: bool = False) -> list[Job]:
    """One job per target, kernel and dtype: float32 in NCHW, the others in channels_last, where there is such a one.

    each_plan: one for every tile, number of warps and stages that a kernel is launched with besides.
    """
    kept: dict[Any, Job] = {}
    for job in sorted(found, key=lambda j: (j.layout == "nchw") != (j.dtype == "float32")):
        plan = (*tile_of(job.launch).items(),) if each_plan else ()
        kept.setdefault((job.target, job.launch.kernel.__name__, job.dtype, plan), job)
    return list(kept.values())


def tile_of(launch: Launch) -> dict[str, Any]:
    """Blocks, the sides of a box of pixels, warps and stages."""
    return {k: v for k, v in launch.arguments.items() if k.startswith(("BLOCK", "BOX"))} | launch.options


def distinct(found: Iterable[Job]) -> list[Job]:
    """The jobs without those that compile to the same program."""
    kept: dict[Any, Job] = {}
    for job in found:
        kept.setdefault((job.target, program_of(job.launch)), job)
    return list(kept.values())


_jobs: list[Job] = []


def _row(index: int) -> dict[str, Any]:
    job = _jobs[index]
    head = {
        "target": job.target,
        "kernel": job.launch.kernel.__name__,
        "case": job.case,
        "dtype": job.dtype,
        "layout": job.layout,
        "tile": tile_of(job.launch),
        "dot": job.launch.kernel.__name__ in _DOT_KERNELS,
        "chunk": _chunk(job.launch),
    }
    try:
        compiled = compile_launch(job.launch, job.target)
        report = read(compiled)
    except Exception as error:  # the row says what the compiler said; the caller counts it as a failure
        return head | {"error": f"{type(error).__name__}: {error}"[:500]}
    fits = report.shared <= CARDS[job.target].shared
    named = {} if compiled.maxnreg in (None, job.launch.options.get("maxnreg")) else {"named": compiled.maxnreg}
    return head | report.as_dict() | named | {"clean": report.stack == 0 and fits} | bounds(job, report)


def _chunk(launch: Launch) -> int | None:
    """Adjacent elements that a program may read at once from each of its maps. A weight gradient reads both."""
    names = ("CHUNK", "CHUNK_Y") if "wgrad" in launch.kernel.__name__ else ("CHUNK",)
    return min((launch.arguments[name] for name in names if name in launch.arguments), default=None)


def bounds(job: Job, report: Report) -> dict[str, Any]:
    """What a launch asks of the card: programs a multiprocessor holds, FLOPs and bytes of a step, the predicted bound.

    The FLOPs of a case are those of its products, or of the kernel that sums taps without one.
    """
    launch, limits = job.launch, LIMITS[job.target]
    code = Code(report.registers, report.shared, report.num_warps, report.total, report.loop)
    product = "BLOCK_K" in launch.arguments
    sums = product or any(word in launch.kernel.__name__ for word in ("direct", "depthwise"))
    found = predict([launch], job.flops if sums else 0.0, limits, [code])
    step = dict(zip(("step_flops", "step_bytes"), work_of_step(launch), strict=True)) if product else {}
    guess = {"bound": found.bound, "predicted_us": round(found.seconds * 1e6, 1), "share": round(found.share, 3)}
    return {"resident": code.resident(limits), **step, **guess, "source": launch.kernel.cache_key[:12]}


def rows(work: list[Job], processes: int) -> Iterator[dict[str, Any]]:
    """One row a job, as they come. Processes fork: the recorded launches stay in memory."""
    global _jobs
    _jobs = work
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap_unordered(_row, range(len(work)), chunksize=4)
