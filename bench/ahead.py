"""The kernels of cases compiled before the first of them runs, by all cores at once.

A first call compiles its kernels one after the other: on a card, half of the time of a short run. Here processes that
see no card record what each case launches and compile that; the calls find it in Triton's cache on disk.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

import kernels
from bench.cases import Case
from bench.machine_code.compile import TARGETS, compile_launch
from bench.problem import problem
from bench.providers import ours, ours_fused
from bench.run import one_line, set_precision
from kernels.common.device import Card, assume_card, card_of
from kernels.common.launch import Launch, record

PROCESSES = max(1, (os.cpu_count() or 1) - 2)


def launches(case: Case, card: Card) -> list[Launch]:
    """What this package launches for a case on `card`, in every layout; its tensors are the CPU's."""
    set_precision(case.precision)
    cpu = torch.device("cpu")
    made = problem(case, cpu)
    with kernels.backend("triton"), assume_card(card), record() as found:
        for provider in (ours, ours_fused):
            if provider.reason(case, cpu) is None:
                for layout in provider.layouts(case, cpu):
                    provider.prepare(made, layout).step(0)
    return found


def compile_case(case: Case, card: Card, arch: str) -> str:
    """Compiles a case's kernels; what went wrong, or nothing. The run itself meets the error again, and reports it."""
    torch.set_num_threads(1)
    try:
        for launch in launches(case, card):
            compile_launch(launch, arch)
    except Exception as error:
        return f"{case.name}: {one_line(error)}"
    return ""


def compile_ahead(cases: Sequence[Case], device: torch.device, seconds: float) -> str:
    """Compiles for the card `device` within a time; what was done, in one line."""
    start = time.monotonic()
    major, minor = torch.cuda.get_device_capability(device)
    if f"sm_{major}{minor}" not in TARGETS:
        return f"nothing compiled ahead for sm_{major}{minor}"
    work = partial(compile_case, card=card_of(device), arch=f"sm_{major}{minor}")
    done: list[str] = []
    with _no_card(), multiprocessing.get_context("spawn").Pool(min(PROCESSES, len(cases))) as pool:
        found = pool.imap_unordered(work, cases)
        try:
            while len(done) < len(cases):
                done.append(found.next(max(0.1, start + seconds - time.monotonic())))
        except multiprocessing.TimeoutError:
            pass
    bad = [each for each in done if each]
    said = f"kernels of {len(done)} of {len(cases)} cases compiled ahead in {time.monotonic() - start:.0f} s"
    return said + (f"; not of {len(bad)}: {bad[0]}" if bad else "")


@contextmanager
def _no_card() -> Iterator[None]:
    """Processes that start inside the block see no card."""
    name = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(name)
    os.environ[name] = ""
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
