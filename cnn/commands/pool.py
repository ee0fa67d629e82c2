"""cnn pool: pooling by hand, every step in numbers and as a picture."""

from __future__ import annotations

import argparse

from cnn.options import add_json, emit

NAME = "pool"
HELP = "pool a small map by hand, by largest value or by mean, as text and picture"
INPUT = "1 3 2 1; 4 6 5 0; 7 2 9 8; 1 0 3 4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options: a matrix, the window, where to write."""
    parser.add_argument("--input", default=INPUT, metavar="ROWS", help='rows such as "0 1; 1 0", or JSON')
    parser.add_argument("--kind", default="max", choices=("max", "avg"), help="what becomes of a window")
    parser.add_argument("--kernel", type=int, default=2, help="rows and columns of the window")
    parser.add_argument(
        "--stride", type=int, help="pixels from one window to the next (the kernel's size if not given)"
    )
    parser.add_argument("--output", default="runs/pool.png", metavar="FILE", help="picture: .png, .svg or moving .gif")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print every step and draw it."""
    from cnn.pictures.walk import draw_walk
    from cnn.see.filters import parse_matrix
    from cnn.see.walk import number, output, pool

    image = parse_matrix(args.input)
    moves = pool(image, args.kernel, args.stride, args.kind)
    out, word = output(moves), "largest" if args.kind == "max" else "mean"
    title = f"{word} of each {args.kernel} x {args.kernel} window, stride {args.stride or args.kernel}"
    path = draw_walk(image, moves, args.output, title)
    lines = [title]
    for i, move in enumerate(moves, 1):
        values = ", ".join(number(v) for row in move.window for v in row)
        lines.append(f"step {i}: {word} of {values} is {number(move.result)}")
    lines += [f"output {len(out)} x {len(out[0])}", *("  " + "  ".join(f"{number(v):>6}" for v in row) for row in out)]
    steps = [{"cell": m.cell, "window": m.window, "result": m.result} for m in moves]
    emit(args, {"output": out, "steps": steps, "picture": str(path)}, "\n".join([*lines, f"picture  {path}"]))
    return 0
