"""cnn predict: what a trained model sees in one's own images, or in images of a data set."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cnn.errors import UserError
from cnn.options import add_data, add_fused, add_json, add_runtime, chosen_data, emit, runtime

if TYPE_CHECKING:
    from torch import Tensor

    from cnn.learn.checkpoint import Checkpoint

NAME = "predict"
HELP = "name the class of one's own images, or of test images (--data, --index)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options: images as files, or places in the test set of --data."""
    parser.formatter_class = argparse.HelpFormatter
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="PNG, JPEG, ... of any size")
    parser.add_argument("--checkpoint", required=True, metavar="MODEL.pt", help="what `cnn train` wrote")
    parser.add_argument("--model", choices=("lenet", "mlp", "gap"), help="refuse a checkpoint of any other model")
    parser.add_argument("--index", type=int, nargs="+", help="places in the test set of --data (default: all)")
    parser.add_argument("--topk", type=int, default=3, help="how many classes to name for each image (default: 3)")
    add_data(parser, default=None)
    add_runtime(parser)
    add_fused(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the classes with their probabilities; for test images also how many are right."""
    from cnn.learn.checkpoint import load
    from cnn.learn.training import predict
    from cnn.models import probabilities, set_fused

    if args.topk < 1:
        raise UserError(f"--topk must be at least 1, not {args.topk}")
    checkpoint = load(args.checkpoint, args.model)
    images, entries = from_test_set(args, checkpoint) if wants_test_set(args) else from_files(args, checkpoint)
    with runtime(args) as device:
        shares = probabilities(predict(set_fused(checkpoint.build(), args.fused), images, device))
    for entry, row in zip(entries, shares, strict=True):
        top = row.topk(min(args.topk, len(row)))
        names = [checkpoint.classes[i] for i in top.indices.tolist()]
        entry.update(prediction=names[0], top=list(zip(names, top.values.tolist(), strict=True)))
    result: dict[str, Any] = {"predictions": entries}
    lines = [line(entry) for entry in entries]
    if wants_test_set(args):
        from cnn.learn.session import counted

        right = sum(entry["prediction"] == entry["label"] for entry in entries)
        result.update(correct=right, total=len(entries))
        lines.append(f"{counted(right, len(entries))} right")
    emit(args, result, "\n".join(lines))
    return 0


def wants_test_set(args: argparse.Namespace) -> bool:
    """Whether the images come from a data set; UserError when there are none, or two sources of them."""
    test_set = args.data is not None or args.index is not None
    if test_set == bool(args.images):
        raise UserError("name either images (cnn predict a.png b.png ...), or --data and --index")
    return test_set


def from_files(args: argparse.Namespace, checkpoint: Checkpoint) -> tuple[Tensor, list[dict[str, Any]]]:
    """The images (N, 1, 28, 28) and an entry each: the file, and what was done to it."""
    import torch

    from cnn.data import lay_out, load_image

    laid_out = [lay_out(load_image(path), checkpoint.layout) for path in args.images]
    entries = [{"image": path, "notes": list(it.notes)} for path, it in zip(args.images, laid_out, strict=True)]
    return torch.cat([it.image for it in laid_out]), entries


def from_test_set(args: argparse.Namespace, checkpoint: Checkpoint) -> tuple[Tensor, list[dict[str, Any]]]:
    """The images (N, 1, 28, 28) and an entry each: the place in the test set, and the true class."""
    data = chosen_data(args.data or checkpoint.data, args.limit, checkpoint.layout, args.download)
    checkpoint.require_classes(data.classes, data.name)
    count = len(data.test_images)
    places = list(range(count)) if args.index is None else args.index
    for place in places:
        if not 0 <= place < count:
            raise UserError(f"--index {place}: the test set of {data.name} has the places 0 to {count - 1}")
    labels = data.test_labels[places].tolist()
    entries = [{"index": i, "label": data.classes[label]} for i, label in zip(places, labels, strict=True)]
    return data.test_images[places], entries


def line(entry: dict[str, Any]) -> str:
    """One image in words."""
    first, *rest = [f"{name} ({100 * share:.1f} %)" for name, share in entry["top"]]
    text = f"{entry.get('image', entry.get('index'))}: {first}" + (f", then {', '.join(rest)}" if rest else "")
    if "label" in entry and entry["label"] != entry["prediction"]:
        text += f"; it is {entry['label']}"
    return "\n".join([text, *(f"  {note}" for note in entry.get("notes", []))])
