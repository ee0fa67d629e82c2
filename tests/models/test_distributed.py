"""DistributedDataParallel over two processes: the averaged gradients of a converted network are torch's."""

from __future__ import annotations

from pathlib import Path as File

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

import kernels
from tests.models.networks import shallow
from tests.models.test_training import loss_of

PROCESSES = 2


def gradients(rank: int, meeting: str) -> None:
    """One process: half of the images, then the gradients of both halves against those of the whole batch."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=PROCESSES)
    try:
        model, images = shallow("resnet18")
        ours = DistributedDataParallel(kernels.convert(model))
        loss_of_one(ours(images[rank : rank + 1]), rank).backward()
        (loss_of_one(model(images[:1]), 0) + loss_of_one(model(images[1:]), 1)).div(PROCESSES).backward()
        for a, b in zip(ours.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad)
    finally:
        dist.destroy_process_group()


def loss_of_one(scores: torch.Tensor, rank: int) -> torch.Tensor:
    """A loss that differs between the two images."""
    return loss_of(scores) * (1 + rank)


def test_two_processes(tmp_path: File) -> None:
    mp.spawn(gradients, args=(str(tmp_path / "meeting"),), nprocs=PROCESSES, join=True)
