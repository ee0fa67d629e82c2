"""MNIST from its four IDX files, gzipped or not, each checked by its MD5."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from cnn.data.dataset import Dataset
from cnn.errors import UserError

# MD5 of the unpacked files.
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def find(directory: Path, name: str) -> Path | None:
    """The file of that name in the directory, plain or gzipped, or None."""
    for candidate in (directory / name, directory / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    return None


def is_mnist(directory: Path) -> bool:
    """Whether the directory holds any of MNIST's four files."""
    return any(find(directory, name) for name in MD5)


def load_mnist(directory: Path) -> Dataset:
    """60,000 training and 10,000 test images. UserError for a missing, damaged or foreign file."""
    parts: list[Tensor] = []
    for name, md5 in MD5.items():
        path = find(directory, name)
        if path is None:
            raise UserError(
                f"{directory}: {name} (or {name}.gz) is missing; MNIST is these four files: {', '.join(MD5)}"
            )
        parts.append(parse_idx(read(path, md5), path))
    train_images, train_labels, test_images, test_labels = parts
    classes = tuple(str(i) for i in range(10))
    return Dataset("mnist", scale(train_images), train_labels.long(), scale(test_images), test_labels.long(), classes)


def scale(images: Tensor) -> Tensor:
    """(N, 28, 28) uint8 in 0..255 -> (N, 1, 28, 28) float32 in 0..1."""
    return images[:, None].float() / 255


def read(path: Path, md5: str | None = None) -> bytes:
    """The unpacked bytes; UserError when they cannot be unpacked or their MD5 differs."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip file ({error}); fetch it again") from error
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if md5 is not None and found != md5:
        raise UserError(f"{path}: MD5 is {found}, MNIST's file has {md5}: damaged, or another data set")
    return data


def parse_idx(data: bytes, path: Path) -> Tensor:
    """An IDX file of bytes as a uint8 tensor of the shape in its header; UserError when it is not one."""
    # Header: two zero bytes, type 8 (unsigned byte), number of dimensions, then each size as a big-endian int32.
    if len(data) < 4 or data[:3] != b"\x00\x00\x08" or data[3] == 0:
        raise UserError(f"{path}: not an IDX file of bytes (its first four bytes are {data[:4].hex() or 'missing'})")
    start = 4 + 4 * data[3]
    sizes = [int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4)]
    if len(data) - start != prod(sizes):
        raise UserError(f"{path}: holds {max(len(data) - start, 0)} values, its header promises {prod(sizes)}")
    return torch.frombuffer(bytearray(data[start:]), dtype=torch.uint8).reshape(sizes)
