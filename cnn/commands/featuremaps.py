"""cnn featuremaps: the maps of every step as pictures."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from cnn.options import add_json, add_runtime, emit, runtime
from cnn.subject import Subject, add_image, add_model

NAME = "featuremaps"
HELP = "draw the filters, the maps of every step (convolution, activation, pool), and where the model looks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options: a model and an image (none: four edge filters on a photo), where to write."""
    parser.formatter_class = argparse.HelpFormatter
    add_image(parser)
    add_model(parser)
    parser.add_argument("--format", default="png", choices=("png", "svg"), help="kind of picture (default: png)")
    parser.add_argument("--output", default="runs/featuremaps", metavar="DIR", help="(default: runs/featuremaps)")
    add_runtime(parser, device="cpu")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write filters, then one picture a step, numbered in order; for a model with scores also where it looks."""
    from cnn.pictures.filters import draw_filters
    from cnn.pictures.maps import draw_step
    from cnn.see.trace import trace
    from cnn.subject import chosen_subject, photo_subject

    with runtime(args) as device:
        named = args.model is not None or args.checkpoint is not None
        it = chosen_subject(args) if named else photo_subject(args.image)
        it = replace(it, model=it.model.to(device), image=it.image.to(device))
        seen = trace(it.model, it.image)
    folder, pictures, lines = Path(args.output), [], list(it.notes)
    steps = [step for step in seen.steps if step.output.dim() == 4]
    for i, step in enumerate(steps, 1):
        weight = step.op.weight
        stem = f"{i:02d}-{step.name}"
        if step.op.kind == "conv" and weight is not None and weight.shape[1] == 1:
            pictures.append(str(draw_filters(weight[:, 0].cpu(), folder / f"{stem}-filters.{args.format}")))
        pictures.append(str(draw_step(step, folder / f"{stem}.{args.format}")))
        lines.append(f"{step.name}: {' x '.join(map(str, step.output.shape[1:]))}")
    if named and seen.output is not None and seen.output.dim() == 2:
        pictures.append(looks(it, folder / f"looks.{args.format}"))
    shapes = {step.name: list(step.output.shape[1:]) for step in steps}
    result = {"shapes": shapes, "pictures": pictures, "notes": list(it.notes)}
    emit(args, result, "\n".join([*lines, *(f"picture  {p}" for p in pictures)]))
    return 0


def looks(it: Subject, path: Path) -> str:
    """Draw saliency and, for a model with convolutions, Grad-CAM of the best class."""
    import torch
    from torch import nn

    from cnn.pictures.looks import draw_looks
    from cnn.see.saliency import grad_cam, saliency

    with torch.no_grad():
        best = int(it.model(it.image)[0].argmax())
    convolves = any(isinstance(m, nn.Conv2d) for m in it.model.modules())
    regions = grad_cam(it.model, it.image, best).cpu() if convolves else None
    answer = it.classes[best] if it.classes else str(best)
    return str(draw_looks(it.image[0].cpu(), saliency(it.model, it.image, best).cpu(), regions, answer, path))
