"""The passes on real tensors: allocate, plan, launch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

from kernels.common.device import MAXNREG
from kernels.common.launch import launch
from kernels.lenet import plan
from kernels.lenet.backward import backward_kernel
from kernels.lenet.forward import forward_kernel
from kernels.lenet.geometry import LeNetGeometry
from kernels.lenet.pack import pack_kernel
from kernels.lenet.reduce import reduce_kernel
from kernels.lenet.style import FORWARD_PACKED, PACKED, WGRAD_TILES, Style, kept_shapes
from kernels.lenet.wgrad import wgrad_kernel

PACK_BLOCK = 512
REDUCE_BLOCK = 128


@cache
def _multiprocessors(device: torch.device) -> int:
    """Of the card; off a card those of an H100."""
    if device.type != "cuda":
        return 132
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _sizes(g: LeNetGeometry) -> dict[str, int]:
    return {"C1": g.c1, "C2": g.c2, "F1": g.f1, "F2": g.f2, "CLASSES": g.classes}


def _columns(classes: int) -> int:
    return max(16, int(triton.next_power_of_2(classes)))


def forward(
    x: Tensor,
    labels: Tensor | None,
    parameters: Sequence[Tensor],
    g: LeNetGeometry,
    style: Style,
    output: str,
    keep: bool,
    outputs: Sequence[Tensor | None],
) -> list[Tensor]:
    """Fill outputs = (scores, share, classes, loss), of which `output` says those needed.

    Returns the tensors of `kept_shapes` if `keep`, else nothing.
    """
    multiprocessors = _multiprocessors(x.device)
    images = plan.images_at_a_time(g.n, multiprocessors)
    chosen = plan.forward_plans(style, keep)[images]
    programs = plan.programs(g.n, images, multiprocessors)
    sizes = [-(-images * size // 16) * 16 for size in (g.pixels1 * 8, g.features, g.f1, g.f2)]
    kept = [x.new_empty(shape, dtype=dtype) for shape, dtype in kept_shapes(g, style)] if keep else []
    if keep:
        y1, code1, y2, code2, h1, h2, packed, padded = kept
    else:
        y1 = x.new_empty((programs * sum(sizes),), dtype=style.compute)
        code1 = y2 = code2 = h1 = h2 = y1
        packed = padded = y1
        if chosen.prepared:
            packed = x.new_empty((FORWARD_PACKED,), dtype=style.compute)
            padded = x.new_empty((programs * images, *g.padded), dtype=style.compute)
    if chosen.prepared:
        _pack(parameters, packed, g, style, transposed=keep)
    # What is not asked for is not written: any pointer will do.
    scores, *rest = outputs
    share, classes, loss = (scores if t is None else t for t in rest)
    names = [f"{kind}{i}_ptr" for i in range(1, 6) for kind in "wb"]
    launch(
        forward_kernel,
        programs,
        x_ptr=x,
        padded_ptr=padded,
        **dict(zip(names, parameters, strict=True)),
        packed_ptr=packed,
        y1_ptr=y1,
        code1_ptr=code1,
        y2_ptr=y2,
        code2_ptr=code2,
        h1_ptr=h1,
        h2_ptr=h2,
        scores_ptr=scores,
        share_ptr=share,
        class_ptr=classes,
        label_ptr=scores if labels is None else labels,
        loss_ptr=loss,
        n=g.n,
        H=g.h,
        W=g.w,
        PAD=g.padding,
        **_sizes(g),
        **style.arguments,
        KEEP=keep,
        OUTPUT=output,
        PREPARED=chosen.prepared,
        IMAGES=images,
        **dict(zip(("Y1_SIZE", "Y2_SIZE", "H1_SIZE", "H2_SIZE"), sizes, strict=True)),
        ROWS=1 if images == 1 else max(16, images),
        COLUMNS=_columns(g.classes),
        BLOCK_1=chosen.block_1,
        BLOCK_2=chosen.block_2,
        BLOCK_C=chosen.block_c,
        BLOCK_K=chosen.block_k,
        STAGES=chosen.conv_stages,
        num_warps=chosen.num_warps,
        num_stages=chosen.num_stages,
        maxnreg=MAXNREG,
    )
    return kept


def _pack(parameters: Sequence[Tensor], packed: Tensor, g: LeNetGeometry, style: Style, transposed: bool) -> None:
    entries = PACKED if transposed else FORWARD_PACKED
    launch(
        pack_kernel,
        entries // PACK_BLOCK,
        w1_ptr=parameters[0],
        w2_ptr=parameters[2],
        packed_ptr=packed,
        C1=g.c1,
        C2=g.c2,
        DTYPE=style.type,
        PRECISION=style.arguments["CONV_PRECISION"],
        BLOCK=PACK_BLOCK,
    )


def backward(
    dy: Tensor,
    share: Tensor | None,
    x: Tensor,
    weights: Sequence[Tensor],
    kept: Sequence[Tensor],
    g: LeNetGeometry,
    style: Style,
) -> Tensor:
    """The gradients of the ten parameters one after the other, in the parameters' dtype.

    dy: the gradient of the scores [n, classes]; or, with share = probabilities minus one for the label (the loss's
    own gradient), that of the losses [n]. weights: of conv2, fc1, fc2, fc3.
    """
    rows = [((g.n, width), style.compute) for width in (g.classes, g.f2, g.f1, g.features)]
    ds, dh2, dh1, dy2 = (x.new_empty(shape, dtype=dtype) for shape, dtype in rows)
    dy1 = torch.empty_like(kept[0])
    _backward_data(dy, share, weights, kept, (ds, dh2, dh1, dy2, dy1), g, style)
    y1, code1, y2, code2, h1, h2, _, padded = kept
    multiprocessors = _multiprocessors(x.device)
    chosen = plan.wgrad_plan(g, style, multiprocessors)
    splits = dict(zip(("splits1", "splits2", "splits3"), chosen.splits, strict=True))
    linear = sum(math.prod(shape) for shape in g.shapes[4:])
    sizes = (chosen.splits[0] * 65 * 64, WGRAD_TILES * chosen.splits[1] * 65 * 64, chosen.splits[2] * linear)
    parts = [x.new_empty((size,), dtype=torch.float32) for size in sizes]
    parts_by_name: dict[str, Any] = dict(zip(("part1_ptr", "part2_ptr", "part3_ptr"), parts, strict=True))
    tiles = sum(math.ceil(width / 64) for width in (g.features, g.f1, g.f2))
    launch(
        wgrad_kernel,
        chosen.splits[0] + WGRAD_TILES * chosen.splits[1] + tiles * chosen.splits[2],
        padded_ptr=padded,
        y1_ptr=y1,
        dy1_ptr=dy1,
        code1_ptr=code1,
        y2_ptr=y2,
        dy2_ptr=dy2,
        code2_ptr=code2,
        h1_ptr=h1,
        dh1_ptr=dh1,
        h2_ptr=h2,
        dh2_ptr=dh2,
        ds_ptr=ds,
        **parts_by_name,
        n=g.n,
        **splits,
        H1=g.pooled1[0],
        W1=g.pooled1[1],
        **_sizes(g),
        **style.arguments,
        BLOCK_M=chosen.block_m,
        BLOCK_ROWS=chosen.block_rows,
        num_warps=chosen.num_warps,
        num_stages=chosen.num_stages,
        maxnreg=MAXNREG,
    )
    total = sum(math.prod(shape) for shape in g.shapes)
    gradients = x.new_empty((total,), dtype=weights[0].dtype)
    conv = (math.prod(shape) + g.shapes[i + 1][0] for i, shape in ((0, g.shapes[0]), (2, g.shapes[2])))
    launch(
        reduce_kernel,
        sum(math.ceil(size / REDUCE_BLOCK) for size in (*conv, linear)),
        **parts_by_name,
        out_ptr=gradients,
        **splits,
        C1=g.c1,
        C2=g.c2,
        LINEAR=linear,
        BLOCK=REDUCE_BLOCK,
    )
    return gradients


def _backward_data(
    dy: Tensor,
    share: Tensor | None,
    weights: Sequence[Tensor],
    kept: Sequence[Tensor],
    gradients: Sequence[Tensor],
    g: LeNetGeometry,
    style: Style,
) -> None:
    """Fill gradients = (ds, dh2, dh1, dy2, dy1)."""
    multiprocessors = _multiprocessors(dy.device)
    images = plan.images_at_a_time(g.n, multiprocessors)
    chosen = plan.backward_plans(style)[images]
    programs = plan.programs(g.n, images, multiprocessors)
    _, _, y2, code2, h1, h2, packed, _ = kept
    ds, dh2, dh1, dy2, dy1 = gradients
    h, w = g.pooled1
    launch(
        backward_kernel,
        programs,
        dscores_ptr=dy if share is None else share,
        scale_ptr=dy,
        **{f"w{i}_ptr": weight for i, weight in enumerate(weights, start=2)},
        packed_ptr=packed[FORWARD_PACKED:],
        y2_ptr=y2,
        code2_ptr=code2,
        h1_ptr=h1,
        h2_ptr=h2,
        ds_ptr=ds,
        dh2_ptr=dh2,
        dh1_ptr=dh1,
        dy2_ptr=dy2,
        dz2_ptr=dy2.new_empty((programs * images, 4 * g.pixels2, 16)),
        dy1_ptr=dy1,
        n=g.n,
        stride_scale=dy.stride(0),
        H1=h,
        W1=w,
        **_sizes(g),
        **style.arguments,
        SCALED=share is not None,
        IMAGES=images,
        ROWS=max(16, images),
        COLUMNS=_columns(g.classes),
        BLOCK_M=chosen.block_m,
        BLOCK_C=chosen.block_c,
        BLOCK_N=chosen.block_n,
        BLOCK_K=chosen.block_k,
        STAGES=chosen.conv_stages,
        num_warps=chosen.num_warps,
        num_stages=chosen.num_stages,
        maxnreg=MAXNREG,
    )
