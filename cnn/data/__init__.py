"""Images as tensors: scikit-learn's digits, MNIST, a folder of images by class, one image of one's own."""

from __future__ import annotations

import os
from pathlib import Path

from cnn.data.dataset import Dataset
from cnn.data.digits import load_digits
from cnn.data.download import download_mnist
from cnn.data.folder import load_folder
from cnn.data.image import load_image
from cnn.data.layout import lay_out
from cnn.data.mnist import is_mnist, load_mnist
from cnn.errors import UserError

__all__ = ["Dataset", "lay_out", "load_data", "load_digits", "load_folder", "load_image", "load_mnist"]


def load_data(name: str = "digits", download: bool = False, layout: str = "digit") -> Dataset:
    """ "digits", "mnist" (the directory in the variable MNIST_DIR, or a download when allowed), or a directory.

    A directory holds MNIST's files or a folder per class. UserError, or FileNotFoundError for a missing directory.
    """
    if name == "digits":
        return load_digits()
    if name == "mnist":
        if "MNIST_DIR" in os.environ:
            return load_mnist(existing(os.environ["MNIST_DIR"]))
        if download:
            return download_mnist()
        raise UserError("--data mnist: set MNIST_DIR to the directory of its four files, or add --download")
    directory = existing(name)
    return load_mnist(directory) if is_mnist(directory) else load_folder(directory, layout)


def existing(name: str) -> Path:
    """The directory of that name; FileNotFoundError or UserError when there is none."""
    path = Path(name)
    if not path.exists():
        raise FileNotFoundError(2, "no such directory (--data takes digits, mnist or a directory)", name)
    if not path.is_dir():
        raise UserError(f"{name}: not a directory (--data takes digits, mnist or a directory)")
    return path
