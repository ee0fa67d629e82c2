"""Command-line options that several commands share: where and how to compute, which data, what to print."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cnn.errors import UserError

if TYPE_CHECKING:
    import torch

    from cnn.data import Dataset

BACKENDS = ("auto", "triton", "torch")


def add_runtime(parser: argparse.ArgumentParser, device: str = "auto") -> None:
    """--device, --backend, --threads."""
    group = parser.add_argument_group("computing")
    group.add_argument("--device", default=device, help="cpu, cuda, cuda:1, ...; auto takes CUDA where there is one")
    group.add_argument("--backend", default="auto", choices=BACKENDS, help="which kernels run the convolutions")
    group.add_argument("--threads", type=int, default=1, help="CPU threads; these models are too small for many")


def add_fused(parser: argparse.ArgumentParser) -> None:
    """--fused, --no-fused."""
    text = "run LeNet as one kernel, and its gradients as three, instead of layer by layer"
    parser.add_argument("--fused", action=argparse.BooleanOptionalAction, default=True, help=text)


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object for programs instead of text")


def add_data(parser: argparse.ArgumentParser, default: str | None = "digits") -> None:
    """--data, --download, --limit."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data", default=default, help="digits, mnist (needs MNIST_DIR or --download), or a folder of images by class"
    )
    group.add_argument("--download", action="store_true", help="allow fetching MNIST from openml.org")
    group.add_argument("--limit", type=int, help="use only the first so many images of each split")


def chosen_data(name: str, limit: int | None = None, layout: str = "digit", download: bool = False) -> Dataset:
    """The data set of that name or folder, cut to `limit` images of each split."""
    from cnn.data import load_data

    return load_data(name, download, layout).limited(limit)


@contextmanager
def runtime(args: argparse.Namespace) -> Iterator[torch.device]:
    """Threads and backend in force; yields the device. UserError for a device that is not there."""
    import torch

    import kernels

    if args.threads < 1:
        raise UserError(f"--threads must be at least 1, not {args.threads}")
    before = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        with kernels.backend(args.backend):
            yield find_device(args.device)
    finally:
        torch.set_num_threads(before)


def find_device(name: str) -> torch.device:
    """The torch device of that name; "auto" is CUDA where there is one, else the CPU. UserError when it is absent."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name}: no such kind of device; use cpu, cuda or auto") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise UserError(f"--device {name}: torch {torch.__version__} finds {found} CUDA devices here; use --device cpu")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"--device {name}: torch {torch.__version__} cannot use it here; use --device cpu") from error
    return device


def emit(args: argparse.Namespace, result: dict[str, Any], text: str) -> None:
    """Print the result as JSON or as text, as the person asked."""
    print(json.dumps(result) if args.json else text)
