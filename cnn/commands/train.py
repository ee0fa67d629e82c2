"""cnn train: a model learns a data set; also under torchrun, resumable."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from cnn.errors import UserError
from cnn.learn.settings import Settings
from cnn.options import add_data, add_fused, add_json, add_runtime, chosen_data, emit, runtime

if TYPE_CHECKING:
    from cnn.learn.checkpoint import Checkpoint

NAME = "train"
HELP = "train a model on digits, MNIST or a folder of images; in several processes: torchrun -m cnn train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options; those in Settings have no default here, so that a resumed run can keep its own."""
    parser.formatter_class = argparse.HelpFormatter
    add_data(parser, default=None)
    group = parser.add_argument_group("model")
    group.add_argument("--model", choices=("lenet", "mlp", "gap"), help=described("model", "what to train"))
    group.add_argument("--pool", choices=("max", "avg"), help=described("pool", "LeNet's pooling"))
    group.add_argument("--activation", choices=("relu", "tanh"), help=described("activation", "LeNet's activation"))
    group.add_argument(
        "--layout", choices=("digit", "whole"), help=described("layout", "how a folder's images become 28x28")
    )
    group = parser.add_argument_group("training")
    group.add_argument("--epochs", type=int, help=described("epochs", "passes over the training images"))
    group.add_argument("--batch-size", type=int, help=described("batch_size", "images a step, over all processes"))
    group.add_argument("--lr", type=float, help=described("lr", "highest learning rate of the cycle"))
    group.add_argument("--weight-decay", type=float, help=described("weight_decay", "AdamW's weight decay"))
    group.add_argument(
        "--augment",
        action=argparse.BooleanOptionalAction,
        help=described("augment", "turn, move and scale the training images a little"),
    )
    group.add_argument("--seed", type=int, help=described("seed", "start of all random numbers"))
    group.add_argument("--resume", metavar="MODEL.pt", help="go on with an interrupted run, with its own settings")
    group.add_argument("--output", metavar="DIR", help="folder of the run (default: runs/DATA-MODEL)")
    group.add_argument("--quiet", action="store_true", help="no progress bar and no line per epoch")
    add_runtime(parser)
    add_fused(parser)
    add_json(parser)


def described(name: str, text: str) -> str:
    """A help text with the value that a new run takes."""
    value = getattr(Settings(), name)
    return f"{text} (default: {'no' if value is False else value})"


def run(args: argparse.Namespace) -> int:
    """Train, writing the model, the log and the curve after every epoch."""
    from cnn.learn.checkpoint import load
    from cnn.learn.distributed import joined
    from cnn.learn.session import learn

    start = load(args.resume, args.model) if args.resume else None
    settings = settled(args, start)
    with runtime(args) as wanted, joined(wanted) as (world, device):
        data = chosen_data(settings.data, settings.limit, settings.layout, args.download)
        default = Path(args.resume).parent if args.resume else Path("runs") / f"{data.name}-{settings.model}"
        folder = Path(args.output) if args.output else default
        outcome = learn(data, settings, folder, device, world, start, shown=not args.quiet, fused=args.fused)
        if world.leads:
            emit(args, outcome.as_dict(), outcome.text())
    return 0


def settled(args: argparse.Namespace, start: Checkpoint | None) -> Settings:
    """What the person asked for, and for the rest what the run to resume has, else the defaults.

    UserError where the person asks for another value than the run to resume has.
    """
    given = {f.name: value for f in fields(Settings) if (value := getattr(args, f.name)) is not None}
    if start is None:
        return Settings(**given)
    for name, value in given.items():
        # The same images may lie elsewhere now.
        if name != "data" and start.settings.get(name) != value:
            flag, kept = "--" + name.replace("_", "-"), start.settings.get(name)
            raise UserError(f"{flag} {value}: the run in {args.resume} has {kept}; a resumed run keeps its settings")
    try:
        return Settings(**{**start.settings, **given})
    except TypeError as error:
        raise UserError(f"{args.resume}: cannot be resumed ({error})") from error
