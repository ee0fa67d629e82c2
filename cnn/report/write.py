"""One model and one image -> one HTML file that shows every number between them."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from string import Template

import torch
from torch import Tensor, nn

from cnn.errors import UserError
from cnn.report import sections
from cnn.report.layers import layers
from cnn.report.payload import payload
from cnn.see.saliency import grad_cam, saliency
from cnn.see.trace import Trace, trace

SCRIPTS = ("tensor.js", "paint.js", "maps.js", "inspect.js", "pad.js", "play.js", "main.js")


@dataclass(frozen=True)
class Report:
    """Where a report lies, and what it says: the best class and its probability."""

    path: Path
    prediction: str
    probability: float


def write_report(
    model: nn.Module,
    image: Tensor,
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    title: str = "How a CNN reads an image",
    label: str | None = None,
    command: str | None = None,
    facts: Sequence[str] = (),
    notes: Sequence[str] = (),
    photo: Tensor | None = None,
) -> Report:
    """Write the report of `model` reading `image` (1, C, H, W) in 0..1.

    classes: one name a score (None: 0, 1, ...). label: the image's true class, when known. command: what to type to
    get this file again. facts: further lines for "Do it again", such as the seed. notes, photo:
    what was done to a photo (1, 1 or 3, H, W) to make `image`. UserError for a batch of images,
    a model that gives no row of scores, or names that do not fit the scores.
    """
    if image.dim() != 4 or image.shape[0] != 1:
        raise UserError(f"report: needs one image (1, C, H, W), got {tuple(image.shape)}")
    seen = trace(model, image)
    names = class_names(seen, classes)
    steps, values = payload(seen, names)
    regions = grad_cam(model, image) if sections.has_convolution(model) else None
    text = Template(asset("page.html")).substitute(
        title=escape(title),
        lead=escape(f"{type(model).__name__} at work on one image: every number it computes, and how."),
        style=asset("style.css"),
        script="\n".join(asset(name) for name in SCRIPTS),
        steps=steps,
        values=values,
        prediction=sections.prediction(seen, probabilities(seen), names, label) + sections.origin(photo, notes),
        pixels=sections.pixels(image[0]),
        layers=layers(seen),
        where=sections.where(image[0], saliency(model, image), regions),
        draw=sections.draw(drawable(seen)),
        pooling=sections.pooling(),
        cost=sections.cost(seen),
        again=again(model, command, facts),
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    shares = probabilities(seen)
    return Report(path, names[int(shares.argmax())], float(shares.max()))


def class_names(seen: Trace, classes: Sequence[str] | None) -> tuple[str, ...]:
    """One name for each score."""
    if seen.output is None or seen.output.dim() != 2:
        shape = "no tensor" if seen.output is None else tuple(seen.output.shape)
        raise UserError(f"report: the model must return a row of scores (1, classes), it returned {shape}")
    count = seen.output.shape[1]
    if classes is not None and len(classes) != count:
        raise UserError(f"report: {len(classes)} class names for {count} scores")
    return tuple(classes) if classes is not None else tuple(map(str, range(count)))


def probabilities(seen: Trace) -> Tensor:
    """Softmax of the scores, (classes,)."""
    assert seen.output is not None
    return torch.softmax(seen.output[0].float(), dim=0)


def drawable(seen: Trace) -> bool:
    """Whether the page can run the network on a drawing: one channel in, and every step known to it."""
    return seen.image.shape[1] == 1 and all(
        s.op.plain and s.source is not None and s.op.kind != "other" for s in seen.steps
    )


def again(model: nn.Module, command: str | None, facts: Sequence[str]) -> str:
    """The command, the model's settings and the versions."""
    lines = [f"<pre>{escape(command)}</pre>"] if command else []
    config = getattr(model, "config", None)
    details = [
        f"model: {type(model).__name__} {config if config is not None else ''}".rstrip(),
        *facts,
        f"Python {platform.python_version()}, torch {torch.__version__}, triton-cnn {installed()}",
    ]
    items = "".join(f"<li>{escape(detail)}</li>" for detail in details)
    return "".join(lines) + f"<ul>{items}</ul>"


def installed() -> str:
    """This package's version, or that it runs from its source."""
    try:
        return version("triton-cnn")
    except PackageNotFoundError:
        return "from source"


def asset(name: str) -> str:
    """The text of a file beside this module."""
    return files("cnn.report").joinpath("assets", name).read_text(encoding="utf-8")
