"""scikit-learn's 1,797 real handwritten digits, laid out like MNIST: on disk with the library, no download."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from cnn.data.dataset import Dataset, stratified_split


def load_digits() -> Dataset:
    """1,437 training and 360 test images, stratified.

    The 8x8 scans are enlarged (bicubic) to 20x20 and centred in 28x28, as MNIST's digits are.
    """
    from sklearn.datasets import load_digits as load

    raw = load()
    small = torch.from_numpy(raw.images).float()[:, None] / 16
    large = F.interpolate(small, size=(20, 20), mode="bicubic", align_corners=False).clamp_(0, 1)
    images = F.pad(large, (4, 4, 4, 4))
    labels = torch.from_numpy(raw.target).long()
    train, test = stratified_split(labels)
    classes = tuple(str(i) for i in range(10))
    return Dataset("digits", images[train], labels[train], images[test], labels[test], classes)
