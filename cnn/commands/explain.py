"""cnn explain: the report of one image, as one HTML file."""

from __future__ import annotations

import argparse
import shlex
import sys

from cnn.options import add_json, add_runtime, emit, runtime
from cnn.subject import add_image, add_model, chosen_subject

NAME = "explain"
HELP = "write an interactive HTML page of every number between one image and its answer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options: a model, an image, where to write."""
    parser.formatter_class = argparse.HelpFormatter
    add_image(parser)
    add_model(parser)
    parser.add_argument("--output", default="runs/report.html", metavar="FILE", help="(default: runs/report.html)")
    parser.add_argument("--title", default="How a CNN reads an image", help="the page's title")
    add_runtime(parser, device="cpu")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write the report and say what the model reads."""
    from cnn.report import write_report

    with runtime(args) as device:
        it = chosen_subject(args)
        report = write_report(
            it.model.to(device),
            it.image.to(device),
            args.output,
            classes=it.classes,
            title=args.title,
            label=it.label,
            command="python -m cnn explain " + shlex.join(_words(sys.argv)),
            notes=it.notes,
            photo=it.photo,
            facts=(*it.facts, f"computed on {device}, backend {args.backend}"),
        )
    result = {"report": str(report.path), "prediction": report.prediction, "probability": report.probability}
    result["notes"] = list(it.notes)
    lines = [*it.notes, f"it reads {report.prediction} ({100 * report.probability:.1f} %)", f"report  {report.path}"]
    emit(args, result, "\n".join(lines))
    return 0


def _words(argv: list[str]) -> list[str]:
    """What was typed after the command's name."""
    return argv[argv.index(NAME) + 1 :] if NAME in argv else []
