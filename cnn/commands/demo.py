"""cnn demo: a LeNet learns real handwritten digits on the CPU, and shows what it sees in one of them."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnn.options import add_json, add_runtime, chosen_data, emit, runtime

NAME = "demo"
HELP = "train LeNet on real handwritten digits, and show how it reads one of them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options; the defaults are the run that the README reports."""
    parser.add_argument("--output", default="runs/demo", metavar="DIR", help="folder for the model and the pictures")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the training images")
    parser.add_argument("--seed", type=int, default=0, help="start of all random numbers")
    parser.add_argument("--limit", type=int, help="use only the first so many images of each split")
    add_runtime(parser, device="cpu")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Train with augmentation, then draw the maps of the first test digit and write its report."""
    from cnn.learn.session import learn
    from cnn.learn.settings import Settings
    from cnn.pictures.journey import draw_journey
    from cnn.report import write_report

    settings = Settings(epochs=args.epochs, seed=args.seed, augment=True, limit=args.limit)
    folder = Path(args.output)
    with runtime(args) as device:
        data = chosen_data(settings.data, settings.limit)
        outcome = learn(data, settings, folder, device)
        maps = folder / "maps.png"
        model, image = outcome.model.cpu(), data.test_images[:1]
        label = data.classes[int(data.test_labels[0])]
        draw_journey(model, image, data.classes, maps, label=label)
        command = f"python -m cnn explain --checkpoint {folder / 'model.pt'} --index 0"
        facts = (f"trained for {args.epochs} epochs, seed {args.seed}: {outcome.text().splitlines()[0]}",)
        page = folder / "report.html"
        write_report(model, image, page, classes=data.classes, label=label, command=command, facts=facts)
    result = {**outcome.as_dict(), "maps": str(maps), "report": str(page)}
    emit(args, result, f"{outcome.text()}\nmaps   {maps}\nreport {page} (open it in a browser)")
    return 0
