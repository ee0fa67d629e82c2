"""What one of several gloo processes does in test_distributed.py."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import kernels
from tests.kernels.paths import CPU_PATH, TRITON_PATH, overflow_checks

STEPS = 2


def model() -> nn.Module:
    """The same parameters in every process."""
    torch.manual_seed(0)
    return nn.Sequential(
        kernels.Conv2d(1, 3, 3, padding=1),
        kernels.ConvReLUPool2d(3, 4, 3),
        kernels.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


def batch() -> Tensor:
    """The global batch, which the processes share out."""
    torch.manual_seed(1)
    return torch.randn(4, 1, 8, 8)


def train(module: nn.Module, inputs: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """A few steps of gradient descent on the mean of squares."""
    for _ in range(STEPS):
        optimizer.zero_grad()
        module(inputs).square().mean().backward()
        optimizer.step()


def wrapped(kind: str, module: nn.Module) -> nn.Module:
    """`module` in one of torch's wrappers."""
    if kind == "ddp":
        return DistributedDataParallel(module)
    from torch.distributed.fsdp import fully_shard

    mesh = dist.init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in module:
        if next(layer.parameters(), None) is not None:
            fully_shard(layer, mesh=mesh)
    return fully_shard(module, mesh=mesh)


def worker(rank: int, world: int, kind: str, path: str, file: str) -> None:
    """Train on this process's share; rank 0 saves the parameters."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{file}.rendezvous", rank=rank, world_size=world)
    try:
        where = TRITON_PATH if path == "triton" else CPU_PATH
        with where.enter(), overflow_checks(False):
            module = wrapped(kind, model())
            train(module, batch().chunk(world)[rank], torch.optim.SGD(module.parameters(), lr=0.1))
        state: dict[str, Any] = {}
        for name, p in module.named_parameters():
            state[name.removeprefix("module.")] = p.full_tensor() if hasattr(p, "full_tensor") else p.detach()
        if rank == 0:
            torch.save(state, file)
        dist.barrier()  # a process that leaves early would take the connection of the other with it
    finally:
        dist.destroy_process_group()
    os._exit(0)  # gloo's threads sometimes outlive the interpreter, and abort the process that is done
