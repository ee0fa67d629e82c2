"""Data sets: layout, split, and every way in which their files can be wrong."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnn.data import Dataset, load_data, load_folder, load_mnist
from cnn.data.mnist import parse_idx, read
from cnn.errors import UserError


def test_digits_are_laid_out_like_mnist(digits: Dataset) -> None:
    assert digits.train_images.shape == (1437, 1, 28, 28)
    assert digits.test_images.shape == (360, 1, 28, 28)
    images = torch.cat([digits.train_images, digits.test_images])
    assert images.dtype == torch.float32
    assert images.min() == 0
    assert 0.99 < images.max() <= 1
    border = torch.ones(28, 28, dtype=torch.bool)
    border[4:24, 4:24] = False
    assert images[:, 0, border].abs().sum() == 0
    assert (images[:, 0, 4:24, 4:24].sum((1, 2)) > 0).all()


def test_digits_are_split_by_class_and_always_alike(digits: Dataset) -> None:
    counts = torch.bincount(digits.test_labels)
    assert len(counts) == 10
    assert counts.min() >= 35
    assert counts.max() <= 37
    assert torch.equal(load_data("digits").test_images, digits.test_images)
    assert digits.classes == tuple("0123456789")


def test_limited_keeps_the_first(digits: Dataset) -> None:
    part = digits.limited(7)
    assert len(part.train_images) == len(part.test_labels) == 7
    assert torch.equal(part.test_images, digits.test_images[:7])
    assert digits.limited(None) is digits
    with pytest.raises(UserError, match="--limit must be at least 1, not 0"):
        digits.limited(0)


def idx(array: Any) -> bytes:
    array = np.asarray(array, dtype=np.uint8)
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_idx_holds_shape_and_values() -> None:
    values = np.arange(24).reshape(2, 3, 4)
    parsed = parse_idx(idx(values), Path("x"))
    assert parsed.dtype == torch.uint8
    assert parsed.tolist() == values.tolist()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an IDX file of bytes .*missing"),
        (b"\x89PNG....", "first four bytes are 89504e47"),
        (struct.pack(">BBBBI", 0, 0, 13, 1, 0), "not an IDX file of bytes"),
        (idx([1, 2, 3])[:-1], "holds 2 values, its header promises 3"),
        (idx([1, 2, 3])[:6], "holds 0 values, its header promises"),
        (idx([1, 2, 3]) + b"x", "holds 4 values, its header promises 3"),
    ],
)
def test_a_wrong_idx_file_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_idx(data, Path("x"))


@pytest.mark.parametrize(
    "damage",
    [b"no gzip at all", gzip.compress(b"abc" * 100, mtime=0)[:-10], b"\x1f\x8b\x08" + b"x" * 30],
    ids=["not gzip", "cut short", "not deflate"],
)
def test_a_damaged_gzip_is_named(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage)
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz: damaged gzip file"):
        read(path)


def test_mnist_files_are_checked(tmp_path: Path) -> None:
    first = tmp_path / "train-images-idx3-ubyte"
    first.write_bytes(idx(np.zeros((1, 28, 28))))
    with pytest.raises(UserError, match="MNIST's file has 6bbc9ace898e44ae57da46a324031adb: damaged, or another"):
        load_data(str(tmp_path))
    first.unlink()
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte \(or train-images-idx3-ubyte.gz\) is missing"):
        load_data(str(tmp_path))


def test_mnist_itself(mnist_dir: Path) -> None:
    data = load_mnist(mnist_dir)
    assert data.train_images.shape == (60000, 1, 28, 28)
    assert data.test_images.shape == (10000, 1, 28, 28)
    assert data.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert (data.train_images.min(), data.train_images.max()) == (0, 1)
    assert data.test_images.mean().item() == pytest.approx(0.1325, abs=1e-4)


def test_mnist_needs_a_directory_or_leave_to_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MNIST_DIR", raising=False)
    with pytest.raises(UserError, match=r"set MNIST_DIR .* or add --download"):
        load_data("mnist")
    monkeypatch.setenv("MNIST_DIR", str(tmp_path))
    with pytest.raises(UserError, match="is missing"):
        load_data("mnist")


def test_download_without_a_network_or_of_other_data_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNIST_DIR", raising=False)

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", offline)
    with pytest.raises(UserError, match=r"could not be downloaded .*no route to host.*--data DIR"):
        load_data("mnist", download=True)
    other = SimpleNamespace(data=np.zeros((60001, 784)), target=np.full(60001, "3"))
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *_, **__: other)
    with pytest.raises(UserError, match="train-images-idx3-ubyte has MD5"):
        load_data("mnist", download=True)


def test_a_download_is_the_same_as_the_files(monkeypatch: pytest.MonkeyPatch, mnist_dir: Path) -> None:
    from cnn.data.download import download_mnist

    files = load_mnist(mnist_dir)
    pixels = (torch.cat([files.train_images, files.test_images]) * 255).round().flatten(1).numpy()
    labels = torch.cat([files.train_labels, files.test_labels]).numpy().astype(str)
    sent = SimpleNamespace(data=pixels, target=labels)
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *_, **__: sent)
    data = download_mnist()
    assert torch.equal(data.train_images, files.train_images)
    assert torch.equal(data.test_labels, files.test_labels)


def write_images(folder: Path, classes: dict[str, int], dark_ink: bool = False) -> None:
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.zeros((28, 28), np.uint8)
            pixels[4:24, 8 + i : 12 + i] = 200
            Image.fromarray(255 - pixels if dark_ink else pixels).save(folder / name / f"{i}.png")


def test_a_folder_is_a_class_per_folder(tmp_path: Path) -> None:
    write_images(tmp_path, {"b": 5, "a": 10})
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    data = load_data(str(tmp_path))
    assert data.classes == ("a", "b")
    assert data.name == tmp_path.name
    assert torch.bincount(data.train_labels).tolist() == [8, 4]
    assert torch.bincount(data.test_labels).tolist() == [2, 1]
    assert data.train_images.max().item() == pytest.approx(200 / 255)
    assert data.notes == ()


def test_a_folder_may_bring_its_own_split_and_dark_ink(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"x": 2, "y": 1}, dark_ink=True)
    write_images(tmp_path / "test", {"x": 1, "y": 1})
    data = load_folder(tmp_path)
    assert (len(data.train_images), len(data.test_images)) == (3, 2)
    assert data.notes == ("inverted 3 of 5 images: dark ink on a light ground",)
    assert (data.train_images.median(), data.test_images.median()) == (0, 0)


def test_wrong_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_data(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"a folder per class \(at least two\).*found none"):
        load_data(str(tmp_path))
    write_images(tmp_path, {"a": 1, "b": 0})
    with pytest.raises(UserError, match=r"b: no images"):
        load_data(str(tmp_path))
    write_images(tmp_path, {"c": 1, "d": 1})
    (tmp_path / "b").rmdir()
    with pytest.raises(UserError, match="cannot split 3 images"):
        load_data(str(tmp_path))
    (tmp_path / "a" / "1.png").write_bytes(b"GIF89a?")
    with pytest.raises(UserError, match=r"1.png: (not an image|damaged image)"):
        load_data(str(tmp_path))
    with pytest.raises(UserError, match="not a directory"):
        load_data(str(tmp_path / "a" / "1.png"))


def test_the_test_set_must_have_the_same_classes(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"x": 1, "y": 1})
    write_images(tmp_path / "test", {"x": 1, "z": 1})
    with pytest.raises(UserError, match=r"train has the classes \('x', 'y'\), test has \('x', 'z'\)"):
        load_folder(tmp_path)
