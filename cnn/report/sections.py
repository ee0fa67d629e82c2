"""The page's sections as HTML. Everything that came from outside goes through `html.escape`."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import torch
from torch import Tensor

from cnn.report.images import colour_png, overlay, png, thumbnail
from cnn.report.layers import MOST_NUMBERS
from cnn.see.arithmetic import connections, reach, summary
from cnn.see.saliency import last_convolution
from cnn.see.trace import Trace

POOL_EXAMPLE = ((1, 3, 2, 1), (4, 6, 5, 0), (7, 2, 9, 8), (1, 0, 3, 4))


def prediction(seen: Trace, probabilities: Tensor, classes: tuple[str, ...], label: str | None) -> str:
    """The image, the verdict, one bar a class: logit and softmax."""
    assert seen.output is not None
    best = int(probabilities.argmax())
    truth = "" if label is None else f" The label says <strong>{escape(label)}</strong>."
    rows = "".join(
        f'<div class="bar{" best" if i == best else ""}"><span class="name">{escape(name)}</span>'
        f'<span class="track"><span class="fill" style="width:{100 * p:.3f}%"></span></span>'
        f'<span class="share">{100 * p:.2f} %</span><span class="score">{score:.2f}</span></div>'
        for i, (name, p, score) in enumerate(zip(classes, probabilities.tolist(), seen.output[0].tolist(), strict=True))
    )
    return (
        f'<div class="answer"><img class="picture" src="{picture(seen.image[0])}" alt="The image that was read">'
        f'<div class="bars"><p class="verdict">It reads <strong>{escape(classes[best])}</strong>'
        f" with {100 * float(probabilities[best]):.2f} %.{truth}</p>{rows}"
        '<p class="soft">Bars: softmax, which makes scores positive with the sum 1. Right: the scores before it.</p>'
        "</div></div>"
    )


def origin(photo: Tensor | None, notes: Sequence[str]) -> str:
    """The photo as it was found, small, and what was done to it."""
    if photo is None:
        return ""
    done = "; ".join(notes) or "scaled"
    return (
        f'<figure class="origin"><img src="{thumbnail(photo[0])}" alt="The photo as it was found">'
        f"<figcaption>As it was found: {photo.shape[-2]} × {photo.shape[-1]} pixels; {escape(done)}."
        "</figcaption></figure>"
    )


def picture(image: Tensor) -> str:
    """The input (C, H, W) as a data URI: gray, colour, or its first channel."""
    return colour_png(image) if image.shape[0] == 3 else png(image[0], 1.0, signed=False)


def pixels(image: Tensor) -> str:
    """Every pixel's number on its gray: white where the value is below max / 2.5."""
    c, h, w = image.shape
    channels = f"{c} channel{'s' if c > 1 else ''}"
    words = f"<p>{h} rows of {w} pixels, {channels}. 0 is black, 1 is white (a byte from 0 to 255, divided by 255).</p>"
    if c != 1 or h * w > MOST_NUMBERS:
        return words + f'<img src="{picture(image)}" width="{min(8 * w, 560)}" alt="The image">'
    return words + number_grid(image[0], f"The image as {h} times {w} numbers")


def number_grid(values: Tensor, label: str) -> str:
    """A (H, W) map as squares with rounded numbers, `0` where a value is exactly 0."""
    turn = float(values.max()) / 2.5
    cells = []
    for v in values.flatten().tolist():
        style = f' style="--v:{v:.2f}"' if v else ""
        text = "0" if v == 0 else f"{v:.2f}".removeprefix("0")
        cells.append(f"<i{' class=w' if v < turn else ''}{style}>{text}</i>")
    columns = f"grid-template-columns:repeat({values.shape[1]},22px)"
    grid = f'<div class="grid" style="{columns}">{"".join(cells)}</div>'
    return f'<div class="scroll" tabindex="0" role="img" aria-label="{label}">{grid}</div>'


def where(image: Tensor, pixels: Tensor, regions: Tensor | None) -> str:
    """Saliency and, for a network with convolutions, Grad-CAM."""
    heat = pixels / pixels.max().clamp_min(1e-30)
    looks = [
        ("Saliency: the pixels whose change would move the winning score most", overlay(image, heat)),
    ]
    if regions is not None:
        looks.append(
            ("Grad-CAM: the regions of the last convolution's maps that speak for the answer", overlay(image, regions))
        )
    figures = "".join(
        f'<figure><img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>' for text, source in looks
    )
    return (
        "<p>Both come from gradients of the winning score. They show where the score is sensitive, "
        "not why the network decides as it does.</p>"
        f'<div class="looks">{figures}</div>'
    )


def draw(drawable: bool) -> str:
    """The drawing pad, or why there is none."""
    if not drawable:
        return "<p>This model cannot run in the page: it reads colours, or has steps that the page does not know.</p>"
    return (
        "<p>The whole network is in this file and runs here, on every stroke. Your drawing is scaled and centred as "
        "MNIST's digits are. With the keyboard: arrow keys move the pen, Space puts it down or lifts it.</p>"
        '<div class="padrow"><div><canvas id="pad" width="280" height="280" tabindex="0" role="application" '
        'aria-label="Drawing pad: arrow keys move the pen, Space puts it down or lifts it"></canvas>'
        '<div class="buttons"><button type="button" id="pad-clear">Clear</button>'
        '<button type="button" id="pad-look" disabled>Show this drawing in every layer</button></div></div>'
        '<figure><img id="pad-preview" alt="What the network gets" width="112" height="112" src="data:,">'
        '<figcaption>what it gets</figcaption></figure><div id="pad-answer" aria-live="polite"></div></div>'
    )


def pooling() -> str:
    """The 4x4 example with both its poolings."""
    example = torch.tensor(POOL_EXAMPLE, dtype=torch.float32)[None, None]
    largest = torch.nn.functional.max_pool2d(example, 2)[0, 0].tolist()
    means = torch.nn.functional.avg_pool2d(example, 2)[0, 0].tolist()

    def table(rows: list[list[float]], name: str, quarter: int) -> str:
        body = "".join(
            "<tr>"
            + "".join(f'<td class="q{2 * (y // quarter) + x // quarter}">{v:g}</td>' for x, v in enumerate(row))
            + "</tr>"
            for y, row in enumerate(rows)
        )
        return f'<table class="small numbers"><caption>{name}</caption>{body}</table>'

    return (
        "<p>A 2 × 2 window with stride 2 turns each coloured quarter into one number. Nothing is learned here.</p>"
        f'<div class="boards">{table(example[0, 0].tolist(), "4 × 4 map", 2)}{table(largest, "largest of each", 1)}'
        f"{table(means, 'mean of each', 1)}</div>"
    )


def cost(seen: Trace) -> str:
    """Shapes, parameters, multiply-adds and receptive fields, then what sharing the filters saves."""
    rows = summary(seen)
    body = "".join(
        f"<tr><td>{escape(r.name)}</td><td>{' × '.join(map(str, r.shape))}</td><td>{r.parameters:,}</td>"
        f"<td>{r.multiply_adds:,}</td><td>{reach(r.field)}</td></tr>"
        for r in rows
    )
    total = f"<td>{sum(r.parameters for r in rows):,}</td><td>{sum(r.multiply_adds for r in rows):,}</td>"
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Costs"><table class="facts">'
        "<thead><tr><th>Step</th><th>Output</th><th>Parameters</th><th>Multiply-adds</th><th>Sees</th></tr></thead>"
        f"<tbody>{body}</tbody><tfoot><tr><td>Sum</td><td></td>{total}<td></td></tr></tfoot></table></div>"
        + sharing(seen)
    )


def sharing(seen: Trace) -> str:
    """The first convolution beside the same layer fully or locally connected."""
    step = next((s for s in seen.steps if s.op.kind == "conv" and s.source is not None), None)
    if step is None:
        return ""
    before = seen.input_of(step)
    assert before is not None
    counts = connections(step, tuple(before.shape[1:]))
    return (
        f"<p>Were {escape(step.name)} fully connected, it would have {counts.dense:,} weights and biases; with its own "
        f"filter at every place {counts.local:,}; sharing one filter everywhere it has {counts.shared:,}.</p>"
    )


def has_convolution(model: torch.nn.Module) -> bool:
    """Whether Grad-CAM applies."""
    try:
        last_convolution(model)
    except ValueError:
        return False
    return True
