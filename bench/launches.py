"""What a step starts on a card: kernels, the host's launches, and the kernels' own time, counted by the profiler."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from bench.providers import Contender

# A graph is one launch of many kernels. Names of the runtime's and the driver's calls begin so.
CALLS = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cuGraphLaunch", "hipLaunchKernel", "hipGraphLaunch")
COPIES = ("Memcpy", "Memset")


@dataclass(frozen=True)
class Launches:
    """kernels: run by the card; launches: calls of the host that started them; kernel_us: the kernels' own time."""

    kernels: int
    launches: int
    kernel_us: float

    def as_dict(self) -> dict[str, Any]:
        """Fields of a row."""
        return asdict(self)


def counted(events: Iterable[Any]) -> Launches:
    """The counts of torch.profiler's events. Copies, fills and annotations are no kernels."""
    listed = list(events)
    on_host = [event for event in listed if event.device_type.name != "CUDA"]
    # An annotation of the host is repeated on the device's line, over the kernels that it covers.
    annotations = {event.name for event in on_host}
    kernels = [
        event
        for event in listed
        if event.device_type.name == "CUDA"
        and event.name not in annotations
        and not getattr(event, "is_user_annotation", False)
        and not event.name.startswith(COPIES)
    ]
    launches = sum(event.name.startswith(CALLS) for event in on_host)
    return Launches(len(kernels), launches, round(sum(event.time_range.elapsed_us() for event in kernels), 3))


def launches_of(contender: Contender) -> Launches:
    """Of one step on the first input, after one that warms up. CUDA only."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with contender.scope():
        contender.step(0)
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=activities) as seen:
            contender.step(0)
            torch.cuda.synchronize()
    events: Any = seen.events()
    return counted(events)
