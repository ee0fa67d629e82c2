"""Clocks that wait for the work: wall time, device time by events, and the host's share of a call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

Work = Callable[[int], Any]
# The host clock must not run into a full launch queue (about a thousand kernels), where it would time the device.
HOST_CALLS = 5


class ClockError(RuntimeError):
    """A clock that does not wait for the work it times."""


class Clock(Protocol):
    """metric: what it measures. cache: "warm", or "flushed" when each call finds an empty L2."""

    metric: str
    cache: str

    def sample(self, work: Work, calls: int) -> float:
        """Seconds of one call of work(i), from `calls` of them."""
        ...


def synchronizer(device: torch.device) -> Callable[[], None]:
    """What waits for the device's queued work; nothing to do on the CPU."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


class WallClock:
    """What a person waits: from an idle device to an idle device, divided by the calls in between."""

    metric, cache = "wall", "warm"

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self.synchronize = synchronize

    def sample(self, work: Work, calls: int) -> float:
        """Seconds a call; waits for the device before and after."""
        self.synchronize()
        start = time.perf_counter()
        for i in range(calls):
            work(i)
        self.synchronize()
        return (time.perf_counter() - start) / calls


class HostClock:
    """What a call costs the host before the device is done: the launches of a few calls on an idle device."""

    metric, cache = "host", "warm"

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self.synchronize = synchronize

    def sample(self, work: Work, calls: int) -> float:
        """Seconds a call until it returns to the host."""
        calls = min(calls, HOST_CALLS)
        self.synchronize()
        start = time.perf_counter()
        for i in range(calls):
            work(i)
        seconds = time.perf_counter() - start
        self.synchronize()
        return seconds / calls


class EventClock:
    """The device's own time between two events around each call, its L2 filled with other data before the call."""

    metric, cache = "device", "flushed"

    def __init__(self, device: torch.device) -> None:
        self.device = device
        l2 = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0) or (64 << 20)
        self.flush = torch.empty(2 * l2, dtype=torch.int8, device=device)

    def sample(self, work: Work, calls: int) -> float:
        """Median of the calls' device seconds. The flush also hides the host's time for the first launch."""
        event: Any = torch.cuda.Event
        pairs = [(event(enable_timing=True), event(enable_timing=True)) for _ in range(calls)]
        for i, (start, end) in enumerate(pairs):
            self.flush.zero_()
            start.record()
            work(i)
            end.record()
        torch.cuda.synchronize(self.device)
        milliseconds: list[float] = sorted(start.elapsed_time(end) for start, end in pairs)
        return milliseconds[len(pairs) // 2] * 1e-3


def clocks(device: torch.device) -> list[Clock]:
    """The clocks of a device; a clock that fails its check is an error, not a column."""
    synchronize = synchronizer(device)
    if device.type != "cuda":
        wall: list[Clock] = [WallClock(synchronize)]
        verify(wall[0], lambda i: time.sleep(0.005), synchronize)
        return wall
    found: list[Clock] = [EventClock(device), WallClock(synchronize)]
    spin: Any = torch.cuda._sleep
    for clock in found:
        # About ten milliseconds on a card of 1 to 2 GHz.
        verify(clock, lambda i: spin(16_000_000), synchronize)
    return [*found, HostClock(synchronize)]


def verify(clock: Clock, work: Work, synchronize: Callable[[], None], tries: int = 3) -> None:
    """ClockError unless the clock sees the work that a person waits for.

    work: a call whose length does not depend on caches, at least a few milliseconds long.
    """
    waited = []
    for _ in range(tries):
        synchronize()
        start = time.perf_counter()
        work(0)
        synchronize()
        waited.append(time.perf_counter() - start)
    seen = max(clock.sample(work, 1) for _ in range(tries))
    synchronize()
    if seen < 0.8 * min(waited):
        raise ClockError(
            f"the {clock.metric} clock saw {seen * 1e3:.3f} ms of work that takes {min(waited) * 1e3:.3f} ms: "
            "it does not wait for the device"
        )
