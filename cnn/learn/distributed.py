"""The processes that train together under torchrun: who this one is, and what they exchange."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from cnn.errors import UserError


@dataclass(frozen=True)
class World:
    """This process is number `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process prints and writes files."""
        return self.rank == 0

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model whose backward averages gradients over the processes; the model itself when alone."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch along its first dimension; parts differ by at most one element."""
        return batch.tensor_split(self.size)[self.rank]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """Join the processes that torchrun started (gloo on CPU, nccl on CUDA), or stay alone without torchrun.

    Yields the world and this process's own device. UserError when there are more processes than CUDA devices.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(), device
        return
    if device.type == "cuda":
        local, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= count:
            raise UserError(f"process {local} on this machine finds {count} CUDA devices; lower --nproc-per-node")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(distributed.get_rank(), size), device
        # All leave together: a process that ends while another still writes would break the connection under it.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def leave(code: int) -> NoReturn:
    """End this process. Among several at once: gloo's threads sometimes outlive the interpreter, and abort the process
    that is done, which torchrun takes for a failure."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
