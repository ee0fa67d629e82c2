"""Digits, a short training run and MNIST where it is at hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cnn.__main__ import main
from cnn.data import Dataset, load_digits
from cnn.learn.session import Outcome, learn
from cnn.learn.settings import Settings

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_digits()


@pytest.fixture(scope="session")
def few(digits: Dataset) -> Dataset:
    return digits.limited(150)


@pytest.fixture(scope="session")
def trained(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A LeNet after eight epochs on the digits with augmentation: about 97 % right."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    return learn(digits, Settings(epochs=8, augment=True), folder, torch.device("cpu"), shown=False)


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    if "MNIST_DIR" not in os.environ:
        pytest.skip("MNIST_DIR is not set: the directory of MNIST's four files")
    return Path(os.environ["MNIST_DIR"])


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run the command line in this process: exit code, stdout, stderr."""

    def run(*args: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as stop:
            assert isinstance(stop.code, int)
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return run
