"""The fresh process behind a cold-start row: `python -m bench.cold_child PROVIDER DEVICE THREADS` prints one JSON line.

Nothing heavy may be imported before the clock starts, so the work is inside main.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

BATCH = {"cpu": 256, "cuda": 4096}
LATER = 10


def main(provider: str, device: str, threads: int) -> None:
    """Imports, calls a convolution, trains LeNet; the times of the first and of later ones, and the peak memory."""
    start = time.perf_counter()
    import torch

    if provider == "ours":
        import kernels
        import kernels as api
    else:
        import torch.nn.functional as api  # type: ignore[no-redef]
    answer: dict[str, float] = {"import": time.perf_counter() - start}
    torch.set_num_threads(threads)
    wait: Any = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    if device == "cuda":
        # The context's start belongs to nobody.
        torch.zeros(1, device=device)
        wait()
    from contextlib import nullcontext

    scope = kernels.backend("triton" if device == "cuda" else "auto") if provider == "ours" else nullcontext()
    with scope:
        x, w = torch.randn(64, 6, 14, 14, device=device), torch.randn(16, 6, 5, 5, device=device)
        timed(answer, "call", lambda: api.conv2d(x, w), wait)
        timed(answer, "training step", training(provider, device), wait)
    answer["host memory"] = peak_mib()
    if device == "cuda":
        answer["device memory"] = torch.cuda.max_memory_allocated() / 2**20
    print(json.dumps(answer))


def timed(answer: dict[str, float], name: str, work: Any, wait: Any) -> None:
    """The seconds of the first call, and the median of later ones."""
    seconds = []
    for _ in range(1 + LATER):
        wait()
        start = time.perf_counter()
        work()
        wait()
        seconds.append(time.perf_counter() - start)
    answer[f"first {name}"] = seconds[0]
    answer[f"later {name}"] = sorted(seconds[1:])[LATER // 2]


def training(provider: str, device: str) -> Any:
    """LeNet's training step on random images, the model made here and not timed."""
    import torch

    from bench import networks

    model: Any = networks.lenet()
    if provider == "ours":
        from cnn.models import LeNet

        model = LeNet()
    model.to(device)
    images = torch.randn(BATCH[device], 1, 28, 28, device=device)
    labels = torch.randint(10, (BATCH[device],), device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        loss: Any = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()

    return step


def peak_mib() -> float:
    """The process's largest resident memory; ru_maxrss is in KiB on Linux and in bytes on macOS."""
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
