"""MNIST from openml.org, only when asked for, checked against the same MD5s as the files."""

from __future__ import annotations

import hashlib
import warnings

import numpy as np
import torch

from cnn.data.dataset import Dataset
from cnn.data.mnist import MD5, scale
from cnn.errors import UserError


def download_mnist() -> Dataset:
    """The 70,000 images through scikit-learn, which keeps them in its own cache.

    UserError without a network, or when what came is not MNIST.
    """
    from sklearn.datasets import fetch_openml

    try:
        with warnings.catch_warnings():
            # scikit-learn warns at every retry; the error below says it once.
            warnings.simplefilter("ignore", UserWarning)
            raw = fetch_openml("mnist_784", version=1, as_frame=False, parser="liac-arff")
    except (OSError, ValueError) as error:
        raise UserError(
            f"MNIST could not be downloaded from openml.org ({error}); get its four files yourself and pass --data DIR"
        ) from error
    images = np.ascontiguousarray(raw.data.reshape(-1, 28, 28), dtype=np.uint8)
    labels = np.ascontiguousarray(raw.target, dtype=np.uint8)
    parts = images[:60000], labels[:60000], images[60000:], labels[60000:]
    for (name, md5), part in zip(MD5.items(), parts, strict=True):
        sizes = b"".join(size.to_bytes(4, "big") for size in part.shape)
        found = hashlib.md5(
            b"\0\0\x08" + bytes([part.ndim]) + sizes + part.tobytes(), usedforsecurity=False
        ).hexdigest()
        if found != md5:
            raise UserError(f"what openml.org sent for {name} has MD5 {found}, MNIST has {md5}")
    train_images, train_labels, test_images, test_labels = map(torch.from_numpy, parts)
    classes = tuple(str(i) for i in range(10))
    return Dataset("mnist", scale(train_images), train_labels.long(), scale(test_images), test_labels.long(), classes)
