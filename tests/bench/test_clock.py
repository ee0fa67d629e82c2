"""A clock that does not wait for the device is refused; rounds meet every contender; spreads are what they say."""

from __future__ import annotations

import queue
import threading
import time

import pytest

from bench.clock import ClockError, HostClock, WallClock, verify
from bench.measure import Timing, measure
from bench.providers import Contender


class Device:
    """An asynchronous device: work is queued and done by another thread, as on a GPU."""

    def __init__(self):
        self.queue = queue.Queue()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            time.sleep(self.queue.get())
            self.queue.task_done()

    def launch(self, seconds):
        self.queue.put(seconds)

    def synchronize(self):
        self.queue.join()


@pytest.fixture
def device():
    return Device()


def test_a_clock_that_waits_is_accepted(device):
    verify(WallClock(device.synchronize), lambda i: device.launch(0.02), device.synchronize)


def test_a_planted_clock_that_does_not_wait_is_refused(device):
    unsynchronised = WallClock(lambda: None)
    with pytest.raises(ClockError, match="does not wait"):
        verify(unsynchronised, lambda i: device.launch(0.02), device.synchronize)


def test_a_clock_that_waits_only_before_is_refused(device):
    class Early(WallClock):
        def sample(self, work, calls):
            self.synchronize()
            start = time.perf_counter()
            for i in range(calls):
                work(i)
            return (time.perf_counter() - start) / calls

    with pytest.raises(ClockError):
        verify(Early(device.synchronize), lambda i: device.launch(0.02), device.synchronize)


def test_a_clock_that_divides_wrongly_is_refused(device):
    class Half(WallClock):
        def sample(self, work, calls):
            return super().sample(work, calls) / 2

    with pytest.raises(ClockError):
        verify(Half(device.synchronize), lambda i: device.launch(0.02), device.synchronize)


def test_the_host_clock_measures_the_launch_and_leaves_an_idle_device(device):
    clock = HostClock(device.synchronize)
    assert clock.sample(lambda i: device.launch(0.01), 2) < 0.005
    assert device.queue.empty()


def test_a_clock_of_calls_divides_by_their_number(device):
    seconds = WallClock(device.synchronize).sample(lambda i: device.launch(0.01), 5)
    assert 0.009 < seconds < 0.05


def spin(seconds):
    """Busy for that long by the wall, whatever else the machine does."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def contender(name, seconds):
    return Contender(name, "nchw", "spin", lambda i: (spin(seconds),))


def test_times_are_those_of_the_work_and_contenders_take_turns(monkeypatch):
    # One short call a sample: a busy machine interrupts every long one.
    monkeypatch.setattr("bench.measure.SAMPLE_SECONDS", 1e-4)
    calls = []
    clock = WallClock(lambda: None)

    def step(name, seconds):
        def run(i):
            calls.append(name)
            spin(seconds)
            return ()

        return run

    made = [Contender(name, "nchw", "", step(name, seconds)) for name, seconds in (("a", 3e-4), ("b", 6e-4))]
    timings = measure(made, clock, 0.2, rounds=(25, 25))
    assert [len(timing.samples) for timing in timings] == [25, 25]
    assert min(timings[0].samples) == pytest.approx(3e-4, rel=0.2)
    assert min(timings[1].samples) == pytest.approx(6e-4, rel=0.2)
    # After the warm-up no contender runs its samples in one block.
    turns = [name for i, name in enumerate(calls) if i == 0 or calls[i - 1] != name]
    assert len(turns) > 25


def test_the_spread_is_half_the_distance_of_the_outer_tenths():
    timing = Timing(tuple(float(i) for i in range(90, 111)), 1)
    assert timing.median == 100
    assert timing.spread == pytest.approx(0.08)


def test_an_interrupted_sample_is_taken_again_and_one_that_stays_so_is_counted(monkeypatch):
    counter = iter(range(1000))
    monkeypatch.setattr("bench.measure.interruptions", lambda: next(counter))
    (always,) = measure([contender("a", 1e-4)], WallClock(lambda: None), 0.01, rounds=(5, 5))
    assert always.disturbed == 5 and len(always.samples) == 5
    # Before and after the first sample differ, the second pair is equal: only the quiet sample is kept.
    answers = iter([0, 1, 1, 1] * 5)
    monkeypatch.setattr("bench.measure.interruptions", lambda: next(answers))
    (quiet,) = measure([contender("a", 1e-4)], WallClock(lambda: None), 0.01, rounds=(5, 5))
    assert quiet.disturbed == 0 and next(answers, None) is None
