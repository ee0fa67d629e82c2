"""cnn conv: a convolution by hand, every step in numbers and as a picture."""

from __future__ import annotations

import argparse

from cnn.options import add_json, emit

NAME = "conv"
HELP = "do a small convolution by hand: every window, product and sum, as text and picture"
INPUT = "0 0 0 1 2; 0 0 1 2 2; 0 1 2 2 2; 1 2 2 1 1; 2 2 1 0 0"
KERNEL = "-1 0 1; -1 0 1; -1 0 1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options: two matrices, how the window moves, where to write."""
    parser.add_argument("--input", default=INPUT, metavar="ROWS", help='rows such as "0 1; 1 0", or JSON')
    parser.add_argument("--kernel", default=KERNEL, metavar="ROWS", help="the filter, the same way")
    parser.add_argument("--bias", type=float, default=0.0, help="added to every sum")
    parser.add_argument("--stride", type=int, default=1, help="pixels from one window to the next")
    parser.add_argument("--padding", type=int, default=0, help="rows and columns of zeros around the input")
    parser.add_argument("--output", default="runs/conv.png", metavar="FILE", help="picture: .png, .svg or moving .gif")
    parser.add_argument("--windows", metavar="FILE", help="also draw the window positions along one side")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print every step and draw it."""
    from cnn.pictures.walk import draw_walk, draw_windows
    from cnn.see.filters import parse_matrix
    from cnn.see.walk import convolve, number, output, products, sentence

    image, kernel = parse_matrix(args.input), parse_matrix(args.kernel)
    moves = convolve(image, kernel, args.bias, args.stride, args.padding)
    (h, w), (r, s), out = image.shape, kernel.shape, output(moves)
    sizes = f"{h} x {w} input, {r} x {s} kernel, stride {args.stride}, padding {args.padding}"
    path = draw_walk(image, moves, args.output, f"{sizes}: {len(out)} x {len(out[0])} output", kernel)
    lines = [sizes]
    for i, move in enumerate(moves, 1):
        top, left = move.first
        where = f"rows {top} to {top + r - 1}, columns {left} to {left + s - 1}"
        lines.append(f"step {i}: {where}: {sentence(move, kernel, args.bias)}")
    lines += [f"output {len(out)} x {len(out[0])}", *("  " + "  ".join(f"{number(v):>6}" for v in row) for row in out)]
    if args.windows:
        draw_windows(w, s, args.stride, args.padding, 1, args.windows)
        lines.append(f"windows  {args.windows}")
    steps = [
        {"cell": m.cell, "window": m.window, "products": products(m.window, kernel.tolist()), "result": m.result}
        for m in moves
    ]
    emit(args, {"output": out, "steps": steps, "picture": str(path)}, "\n".join([*lines, f"picture  {path}"]))
    return 0
