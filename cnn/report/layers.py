"""The layers as HTML: what each step does, its filters with numbers, its maps as buttons."""

from __future__ import annotations

from html import escape

import torch
from torch import Tensor

from cnn.report.images import as_maps, ink, png, shade
from cnn.see.steps import KIND_NAMES
from cnn.see.trace import Step, Trace

# Beyond this many, a table of numbers says nothing and weighs much.
MOST_NUMBERS = 40 * 40


def layers(seen: Trace) -> str:
    """One block a step: what it does, its filters, its maps as buttons."""
    return "\n".join(layer(i, step, seen) for i, step in enumerate(seen.steps))


def layer(index: int, step: Step, seen: Trace) -> str:
    """One step's maps on one scale."""
    output = step.output[0]
    maps = as_maps(output)
    bound = float(output.abs().max()) or 1.0
    signed = bool(output.min() < 0) or step.op.kind in ("conv", "linear")
    shape = " × ".join(map(str, output.shape))
    buttons = "".join(map_button(index, c, m, step, maps.shape[0], bound, signed) for c, m in enumerate(maps))
    return (
        f'<div class="layer" data-step="{index}" data-bound="{bound!r}" data-signed="{int(signed)}">'
        f'<h3>{escape(step.name)} <span class="shape">{KIND_NAMES[step.op.kind]}, {shape}</span></h3>'
        f'<p class="soft">{sentence(step)}</p>{legend(bound, signed)}{filters(index, step)}'
        f'<div class="maps">{buttons}</div></div>'
    )


def map_button(index: int, channel: int, values: Tensor, step: Step, count: int, bound: float, signed: bool) -> str:
    """One map: picture, size and range for a screen reader."""
    rows, columns = values.shape
    vector = step.output.dim() != 4
    inside = step.output[0].flatten() if vector else values
    what = f"all {inside.numel()} values" if vector else f"map {channel + 1} of {count}, {rows} by {columns}"
    label = f"{step.name}, {what}, from {float(inside.min()):.5g} to {float(inside.max()):.5g}"
    pitch = max(1, round(84 / columns)) if not vector else min(24, 560 // columns)
    name = "" if vector else f"<span>{channel + 1}</span>"
    return (
        f'<button type="button" class="map" data-step="{index}" data-channel="{channel}" data-rows="{rows}" '
        f'data-columns="{columns}" aria-label="{escape(label)}"><span class="frame"><img alt="" '
        f'src="{png(values, bound, signed)}" width="{pitch * columns}" height="{pitch * rows}"></span>{name}</button>'
    )


def legend(bound: float, signed: bool) -> str:
    """The layer's one scale. data-share is the mark's place in units of the bound."""
    low = f'<span data-share="-1">{-bound:.3g}</span>' if signed else "<span>0</span>"
    kind = "signed" if signed else "gray"
    return f'<div class="legend">{low}<span class="ramp {kind}"></span><span data-share="1">{bound:.3g}</span></div>'


def sentence(step: Step) -> str:
    """What the step does, in words."""
    op = step.op
    size = f"{op.kernel[0]} × {op.kernel[1]}"
    if op.kind == "conv" and op.weight is not None:
        deep = f" × {op.weight.shape[1]}" if op.weight.shape[1] > 1 else ""
        return (
            f"{op.weight.shape[0]} filters of {size}{deep}, stride {op.stride[0]}, padding {op.padding[0]}: "
            "each gives one map. Blue is negative, orange positive."
        )
    texts = {
        "relu": "Negative values become 0, positive ones stay.",
        "tanh": "Every value is squeezed into -1..1.",
        "max": f"The largest value of each {size} window.",
        "avg": f"The mean of each {size} window.",
        "flatten": "The maps are written into one row of numbers.",
        "linear": "Every unit multiplies all inputs by its own weights and adds them up.",
        "scale": "Batch normalisation: a factor and a shift for each map.",
        "identity": "Nothing happens outside training.",
    }
    return texts.get(op.kind, "A step that this page can show but not redo.")


def filters(index: int, step: Step) -> str:
    """A convolution's weights: numbers where the input is one map, otherwise one row of slices a filter."""
    weight = step.op.weight
    if step.op.kind != "conv" or weight is None:
        return ""
    k, c, r, s = weight.shape
    bound = float(weight.abs().max()) or 1.0
    sheet = torch.zeros(k * (r + 1) + 1, c * (s + 1) + 1)
    for i in range(k):
        for j in range(c):
            sheet[i * (r + 1) + 1 : (i + 1) * (r + 1), j * (s + 1) + 1 : (j + 1) * (s + 1)] = weight[i, j]
    if c == 1:
        sheet = torch.cat([sheet[i * (r + 1) : (i + 1) * (r + 1)] for i in range(k)], dim=1)
        numbers = "".join(filter_table(weight[i, 0], bound, f"Filter {i + 1}") for i in range(k))
        return f'<div class="filters-row">{numbers}</div>' if k * r * s <= MOST_NUMBERS else ""
    pitch = max(2, min(8, 560 // sheet.shape[1]))
    return (
        f"<details><summary>The {k} filters, each with {c} slices of {r} × {s}, one for each input map</summary>"
        f'<div class="scroll"><img class="filters" data-step="{index}" data-channels="{c}" '
        f'src="{png(sheet, bound, True)}" '
        f'width="{pitch * sheet.shape[1]}" height="{pitch * sheet.shape[0]}" '
        f'alt="Filters as rows, their slices as columns; weights from {-bound:.3g} to {bound:.3g}"></div></details>'
    )


def filter_table(values: Tensor, bound: float, name: str) -> str:
    """A filter (R, S) as numbers on the diverging colours."""
    rows = []
    for row in values.tolist():
        cells = []
        for v in row:
            rgb = shade(v, bound)
            text = f"{v:.2f}".replace("0.", ".")
            cells.append(f'<td style="background:rgb{rgb};color:{ink(rgb)}">{text}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f'<table class="numbers"><caption>{name}</caption>{"".join(rows)}</table>'
