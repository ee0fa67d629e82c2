"""cnn filter: a photo before and after a filter."""

from __future__ import annotations

import argparse

from cnn.options import add_json, emit

NAME = "filter"
HELP = "put a classic filter, or one's own matrix, on a photo: before and after"
NAMES = ("sobel-x", "sobel-y", "blur", "sharpen", "darken", "edge", "emboss", "identity")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options: which photo, which filter, where to write."""
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="PNG, JPEG, ...; none: matplotlib's portrait")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--filter", default="sobel-x", choices=NAMES, help="a classic 3 x 3 filter")
    which.add_argument(
        "--matrix", metavar="ROWS", help='one\'s own, as rows such as "0 -1 0; -1 5 -1; 0 -1 0", or JSON'
    )
    parser.add_argument("--colour", action="store_true", help="filter red, green and blue, each by itself")
    parser.add_argument("--output", default="runs/filter.png", metavar="FILE", help="picture: .png or .svg")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Draw before, filter, after; print the range of values."""
    from cnn.data import load_image
    from cnn.data.photo import photo_path
    from cnn.pictures.filters import draw_filtered
    from cnn.see.filters import apply_filter, named_filter, parse_matrix

    matrix = parse_matrix(args.matrix) if args.matrix else named_filter(args.filter)
    name = "own matrix" if args.matrix else args.filter
    image = load_image(args.image or photo_path(), args.colour)[0]
    filtered = apply_filter(image, matrix)
    path = draw_filtered(image, filtered, matrix, name, args.output)
    low, high = float(filtered.min()), float(filtered.max())
    lines = [
        f"{name}: values {low:.4f} to {high:.4f} after, {float(image.min()):.4f} to {float(image.max()):.4f} before"
    ]
    if low < 0:
        lines.append("negative values are kept: blue below 0, orange above")
    result = {"filter": matrix.tolist(), "min": low, "max": high, "picture": str(path)}
    emit(args, result, "\n".join([*lines, f"picture  {path}"]))
    return 0
