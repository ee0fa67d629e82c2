"""The model and the image that a person points at on the command line."""

from __future__ import annotations

import argparse
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnn.errors import UserError
from cnn.options import add_data, chosen_data

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cnn.learn.checkpoint import Checkpoint


_OWN_ONLY = "--size and --colour belong to --model FILE.py:CLASS; this package's models read 28x28 gray"


@dataclass(frozen=True)
class Subject:
    """A model in evaluation mode, one image (1, C, H, W) in 0..1, and what is known of both.

    classes: names of the scores, None where unknown. label: the image's true class. notes: what was done to the image.
    facts: how the model was made. photo: the image as it was found, (1, C, H, W), where it had to be laid out.
    """

    model: nn.Module
    image: Tensor
    classes: tuple[str, ...] | None = None
    label: str | None = None
    notes: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    photo: Tensor | None = None


def add_model(parser: argparse.ArgumentParser) -> None:
    """--checkpoint, --model, --size, --colour."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--checkpoint",
        metavar="MODEL.pt",
        help="what `cnn train` wrote; or, with --model FILE.py:CLASS, its state_dict",
    )
    group.add_argument(
        "--model", metavar="MODEL", help="lenet, mlp or gap; or one's own class without arguments, as FILE.py:CLASS"
    )
    group.add_argument("--size", metavar="HxW", help="pixels that one's own class expects (default: 28x28)")
    group.add_argument("--colour", action="store_true", help="one's own class expects 3 channels instead of 1")


def add_image(parser: argparse.ArgumentParser) -> None:
    """An image file, or a place in the test set of --data."""
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="PNG, JPEG, ... of any size; none: --index of --data")
    parser.add_argument(
        "--index", type=int, default=0, help="place in the test set, where no IMAGE is given (default: 0)"
    )
    add_data(parser, default=None)


def chosen_subject(args: argparse.Namespace) -> Subject:
    """The model and the image of the options. UserError where they do not name one of each."""
    if args.model and ":" in args.model:
        return _own(args)
    if args.size or args.colour:
        raise UserError(_OWN_ONLY)
    if not args.checkpoint:
        raise UserError("name a model: --checkpoint MODEL.pt (`cnn train` writes one) or --model FILE.py:CLASS")
    import torch

    from cnn.data import lay_out, load_image
    from cnn.learn.checkpoint import load

    checkpoint = load(args.checkpoint, args.model)
    model = checkpoint.build()
    if args.image is not None:
        photo = load_image(args.image)
        laid_out = lay_out(photo, checkpoint.layout)
        found = None if torch.equal(photo, laid_out.image) else photo
        names = tuple(checkpoint.classes)
        return Subject(model, laid_out.image, names, None, laid_out.notes, _facts(checkpoint), found)
    image, label = _from_test_set(args, checkpoint)
    return Subject(model, image, tuple(checkpoint.classes), label, (), _facts(checkpoint))


def photo_subject(image: str | None) -> Subject:
    """Four edge filters as a network, and a gray photo of any size (None: matplotlib's portrait)."""
    from cnn.data import load_image
    from cnn.data.photo import photo_path
    from cnn.models import FilterNet

    note = "no model named: four 4 x 4 edge filters"
    return Subject(FilterNet().eval(), load_image(image or photo_path()), notes=(note,))


def bare_model(args: argparse.Namespace) -> tuple[nn.Module, Tensor]:
    """The model of the options, trained or not (none: LeNet), and an empty image of the size it expects."""
    import torch

    if args.model and ":" in args.model:
        return own_model(args.model, args.checkpoint), torch.zeros(1, 3 if args.colour else 1, *sized(args.size))
    if args.size or args.colour:
        raise UserError(_OWN_ONLY)
    from cnn.learn.checkpoint import load
    from cnn.models import build

    model = load(args.checkpoint, args.model).build() if args.checkpoint else build(args.model or "lenet")
    return model, torch.zeros(1, 1, 28, 28)


def own_model(name: str, state: str | None = None) -> nn.Module:
    """An instance of FILE.py:CLASS in evaluation mode, with the weights of a state_dict file where one is given."""
    import torch
    from torch import nn

    file, _, cls = name.rpartition(":")
    made = getattr(_module(file), cls, None)
    if not (isinstance(made, type) and issubclass(made, nn.Module)):
        raise UserError(f"{file} has no torch.nn.Module class named {cls!r}")
    try:
        model: Any = made()
    except TypeError as error:
        raise UserError(f"{name}: cannot be built without arguments ({error}); wrap it in a class that can") from error
    if state is not None:
        from cnn.learn.weights import plain_state

        try:
            model.load_state_dict(plain_state(state))
        except RuntimeError as error:
            raise UserError(f"{state}: does not fit {cls} ({str(error).splitlines()[0]})") from error
    assert isinstance(model, torch.nn.Module)
    return model.eval()


def sized(text: str | None) -> tuple[int, int]:
    """28x28 or 64x48 as (rows, columns); UserError for anything else."""
    parts = (text or "28x28").lower().split("x")
    if len(parts) != 2 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise UserError(f"--size {text}: write rows x columns, such as 28x28")
    return int(parts[0]), int(parts[1])


def _module(file: str) -> Any:
    """The person's own Python file, run as a module."""
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(2, "no such file (--model FILE.py:CLASS)", file)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{file}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{file}: {type(error).__name__}: {error}") from error
    return module


def _own(args: argparse.Namespace) -> Subject:
    """A class of one's own, and an image scaled to what it expects."""
    import torch.nn.functional as F

    from cnn.data import load_image

    model, size = own_model(args.model, args.checkpoint), sized(args.size)
    if args.image is None:
        data = chosen_data(args.data or "digits", args.limit, download=args.download)
        place = _checked(args.index, len(data.test_images), data.name)
        image, label = data.test_images[place : place + 1], data.classes[int(data.test_labels[place])]
        image = image.expand(-1, 3, -1, -1) if args.colour else image
    else:
        image, label = load_image(args.image, args.colour), None
    if image.shape[-2:] != size:
        notes = (f"scaled from {image.shape[-2]}x{image.shape[-1]} to {size[0]}x{size[1]}",)
        small = F.interpolate(image, size, mode="bilinear", antialias=True).clamp(0, 1)
        return Subject(model, small, None, label, notes, photo=image)
    return Subject(model, image.contiguous(), None, label)


def _from_test_set(args: argparse.Namespace, checkpoint: Checkpoint) -> tuple[Tensor, str]:
    data = chosen_data(args.data or checkpoint.data, args.limit, checkpoint.layout, args.download)
    checkpoint.require_classes(data.classes, data.name)
    place = _checked(args.index, len(data.test_images), data.name)
    return data.test_images[place : place + 1], data.classes[int(data.test_labels[place])]


def _checked(place: int, count: int, name: str) -> int:
    if not 0 <= place < count:
        raise UserError(f"--index {place}: the test set of {name} has the places 0 to {count - 1}")
    return place


def _facts(checkpoint: Checkpoint) -> tuple[str, ...]:
    """How the model was trained, in a line."""
    settings = checkpoint.settings
    if not settings:
        return ()
    wanted = ("data", "epochs", "batch_size", "lr", "weight_decay", "augment", "seed")
    # A page may be passed on: the folder of the data stays at home.
    shown = {**settings, "data": Path(checkpoint.data).name}
    return ("trained with " + ", ".join(f"{k} {shown[k]}" for k in wanted if k in shown),)
