"""Training in two gloo processes: both end with the same weights, those of one process on the same batches."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cnn.data import Dataset
from cnn.learn.checkpoint import load
from cnn.learn.settings import Recipe
from cnn.learn.training import Trainer
from cnn.models import build
from tests.cnn.learn.processes import in_float64

ROOT = Path(__file__).parents[3]


def torchrun(*args: object) -> subprocess.CompletedProcess[str]:
    """Two processes on this machine, talking over the loopback interface only."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=2"]
    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    return subprocess.run(
        [*launcher, "--master-addr=127.0.0.1", f"--master-port={port}", *map(str, args)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", **loopback},
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.parametrize("name", ["lenet", "mlp"])
def test_two_processes_train_like_one(name: str, digits: Dataset, tmp_path: Path) -> None:
    done = torchrun(Path(__file__).with_name("processes.py"), name, tmp_path)
    assert done.returncode == 0, done.stderr
    torch.manual_seed(0)
    model = build(name, {"dropout": 0.0} if name == "mlp" else {}).double()
    recipe = Recipe(epochs=2, batch_size=10, augment=True)
    last = list(Trainer(model, in_float64(digits.limited(75)), recipe, torch.device("cpu")).run())[-1]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for key, value in model.state_dict().items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], value, rtol=0, atol=1e-9)
    assert first["loss"] == second["loss"] == pytest.approx(last.loss, abs=1e-5)
    assert first["correct"] == second["correct"] == last.test_correct


def test_torchrun_of_the_command_writes_and_prints_once(tmp_path: Path) -> None:
    flags = ("--limit", 60, "--epochs", 1, "--device", "cpu", "--threads", 1, "--output", tmp_path)
    done = torchrun("-m", "cnn", "train", *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy") == 1
    assert "in 2 processes" in done.stderr
    assert load(tmp_path / "model.pt").model == "lenet"
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1
