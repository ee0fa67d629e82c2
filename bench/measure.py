"""Timing of several contenders in turns, so that a change of the machine's speed meets them all."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.clock import Clock
from bench.providers import Contender

# A sample is at least this long, so that the timer and the loop weigh nothing; much longer ones meet the scheduler.
SAMPLE_SECONDS = 1e-3
MAX_CALLS = 1000
TRIES = 3


@dataclass(frozen=True)
class Timing:
    """Seconds a call: the samples, in the order of the rounds. disturbed: how many the scheduler interrupted."""

    samples: tuple[float, ...]
    calls: int
    disturbed: int = 0

    @property
    def median(self) -> float:
        """The middle sample."""
        return median(self.samples)

    def quantile(self, share: float) -> float:
        """The sample below which that share of the samples lies."""
        ordered = sorted(self.samples)
        return ordered[round(share * (len(ordered) - 1))]

    @property
    def spread(self) -> float:
        """Half the distance between the 10th and the 90th percentile, over the median."""
        return (self.quantile(0.9) - self.quantile(0.1)) / 2 / self.median


def interruptions() -> int:
    """How often the scheduler has taken a core from this process; constant where the system does not count it."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def calls_per_sample(clock: Clock, contender: Contender, warm_up: float) -> int:
    """Warms the contender up, then finds how many calls make a sample long enough."""
    end = time.perf_counter() + warm_up
    seconds = clock.sample(contender.step, 1)
    while time.perf_counter() < end:
        seconds = min(seconds, clock.sample(contender.step, 1))
    return max(1, min(MAX_CALLS, math.ceil(SAMPLE_SECONDS / max(seconds, 1e-7))))


def turn(contender: Contender, clock: Clock, calls: int) -> tuple[float, bool]:
    """One sample, and whether the scheduler left it alone.

    A sample in which another process got the core is no time of this code: it is taken again, at most TRIES times.
    """
    # Not timed: brings code and threads back after another contender's turn.
    contender.step(0)
    for _ in range(TRIES):
        before = interruptions()
        seconds = clock.sample(contender.step, calls)
        if interruptions() == before:
            return seconds, True
    return seconds, False


def measure(
    contenders: Sequence[Contender], clock: Clock, seconds: float, rounds: tuple[int, int] = (7, 101)
) -> list[Timing]:
    """Times the contenders in rounds, in a new order each round, until `seconds` are over.

    rounds: the least and the most. Contenders with few rounds say so by the number of their samples.
    """
    calls = []
    for contender in contenders:
        with contender.scope():
            calls.append(calls_per_sample(clock, contender, min(0.2, seconds / 10 / len(contenders))))
    samples: list[list[float]] = [[] for _ in contenders]
    disturbed = [0] * len(contenders)
    order = list(range(len(contenders)))
    shuffle = random.Random(0).shuffle
    end = time.perf_counter() + seconds
    while len(samples[0]) < rounds[0] or (time.perf_counter() < end and len(samples[0]) < rounds[1]):
        shuffle(order)
        for i in order:
            with contenders[i].scope():
                found, quiet = turn(contenders[i], clock, calls[i])
            samples[i].append(found)
            disturbed[i] += not quiet
    return [Timing(tuple(taken), *more) for taken, *more in zip(samples, calls, disturbed, strict=True)]
