"""A folder of images by class: DIR/<class>/*.png, or DIR/train/<class> and DIR/test/<class>."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from cnn.data.dataset import Dataset, stratified_split
from cnn.data.image import SUFFIXES, load_image
from cnn.data.layout import lay_out
from cnn.errors import UserError


def load_folder(directory: Path, layout: str = "digit") -> Dataset:
    """Every image laid out as 28x28; without train/ and test/ a stratified fifth of them is the test set.

    UserError without classes, with an empty class or a file that is no image.
    """
    train, test = directory / "train", directory / "test"
    if train.is_dir() and test.is_dir():
        classes = class_names(train)
        if class_names(test) != classes:
            raise UserError(f"{directory}: train has the classes {classes}, test has {class_names(test)}")
        train_images, train_labels, inverted = read_classes(train, classes, layout)
        test_images, test_labels, more = read_classes(test, classes, layout)
        inverted += more
    else:
        classes = class_names(directory)
        images, labels, inverted = read_classes(directory, classes, layout)
        first, second = stratified_split(labels)
        train_images, train_labels = images[first], labels[first]
        test_images, test_labels = images[second], labels[second]
    count = len(train_images) + len(test_images)
    notes = (f"inverted {inverted} of {count} images: dark ink on a light ground",) if inverted else ()
    name = directory.resolve().name
    return Dataset(name, train_images, train_labels, test_images, test_labels, classes, notes)


def class_names(directory: Path) -> tuple[str, ...]:
    """The names of the folders inside, sorted; UserError for fewer than two."""
    names = tuple(sorted(p.name for p in directory.iterdir() if p.is_dir() and not p.name.startswith(".")))
    if len(names) < 2:
        raise UserError(
            f"{directory}: expected a folder per class (at least two), or MNIST's files; found {names or 'none'}"
        )
    return names


def read_classes(directory: Path, classes: tuple[str, ...], layout: str) -> tuple[Tensor, Tensor, int]:
    """Images (N, 1, 28, 28), labels (N,), and how many images were inverted."""
    images, labels, inverted = [], [], 0
    for label, name in enumerate(classes):
        paths = sorted(p for p in (directory / name).iterdir() if p.suffix.lower() in SUFFIXES)
        if not paths:
            raise UserError(f"{directory / name}: no images ({' '.join(SUFFIXES)})")
        for path in paths:
            laid_out = lay_out(load_image(path), layout)
            images.append(laid_out.image)
            labels.append(label)
            inverted += any(note.startswith("inverted") for note in laid_out.notes)
    return torch.cat(images), torch.tensor(labels), inverted
