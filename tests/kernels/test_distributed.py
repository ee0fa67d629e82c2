"""DistributedDataParallel and fully_shard wrap the layers: two gloo processes train as one on the whole batch."""

from __future__ import annotations

from pathlib import Path as File

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from kernels.common.device import INTERPRET
from tests.kernels import distributed
from tests.kernels.paths import CPU_PATH, Path

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_train_as_one(path: Path, kind: str, tmp_path: File) -> None:
    if path is not CPU_PATH and not INTERPRET:
        pytest.skip("gloo moves CPU tensors; on cards nccl needs two of them")
    file = tmp_path / "state.pt"
    mp.spawn(distributed.worker, (2, kind, str(path), str(file)), nprocs=2)
    got = torch.load(file)
    single = distributed.model()
    start = {name: p.detach().clone() for name, p in single.named_parameters()}
    distributed.train(single, distributed.batch(), torch.optim.SGD(single.parameters(), lr=0.1))
    want = dict(single.named_parameters())
    assert list(got) == list(want)
    for name, p in want.items():
        torch.testing.assert_close(got[name], p.detach(), rtol=1e-5, atol=1e-5)
        assert not torch.equal(p, start[name])
