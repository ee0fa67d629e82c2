"""cnn pixels: an image as the numbers that it is."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cnn.options import add_data, add_json, chosen_data, emit

if TYPE_CHECKING:
    from torch import Tensor

NAME = "pixels"
HELP = "see an image as numbers: every pixel's value written into it, or each colour channel apart"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options: which image, how, where to write."""
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="PNG, JPEG, ...; none: the first --digit of --data")
    parser.add_argument("--digit", default="3", help="class of the test image to show")
    parser.add_argument(
        "--size", type=int, default=28, help="an IMAGE is scaled to this many pixels on its longer side"
    )
    parser.add_argument("--channels", action="store_true", help="show an IMAGE's red, green and blue apart, unscaled")
    parser.add_argument("--output", default="runs/pixels.png", metavar="FILE", help="picture: .png or .svg")
    add_data(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Draw the picture; print shape and range, channel by channel."""
    from cnn.data import load_image
    from cnn.errors import UserError
    from cnn.pictures.pixels import draw_channels, draw_pixels

    if args.channels:
        if args.image is None:
            raise UserError("--channels needs an IMAGE; the digits have one channel only")
        image = load_image(args.image, colour=True)[0]
        path = draw_channels(image, args.output)
    elif args.image is not None:
        image = scaled(load_image(args.image), args.size)[0]
        path = draw_pixels(image[0], args.output)
    else:
        data = chosen_data(args.data, args.limit, download=args.download)
        if args.digit not in data.classes:
            raise UserError(f"--digit {args.digit}: {data.name} has the classes {', '.join(data.classes)}")
        places = (data.test_labels == data.classes.index(args.digit)).nonzero().flatten().tolist()
        if not places:
            raise UserError(f"--digit {args.digit}: none among the {len(data.test_labels)} test images of {data.name}")
        image = data.test_images[places[0]]
        path = draw_pixels(image[0], args.output)
    shape, low, high = list(image.shape), float(image.min()), float(image.max())
    ranges = [(float(c.min()), float(c.max())) for c in image]
    lines = [f"shape {' x '.join(map(str, shape))} (channels, rows, columns), float32, values {low:.4f} to {high:.4f}"]
    if len(ranges) > 1:
        lines += [f"  {n}: {a:.4f} to {b:.4f}" for n, (a, b) in zip(("red", "green", "blue"), ranges, strict=True)]
    lines.append("a byte from 0 to 255, divided by 255; 0 is black, 1 is white")
    result = {"shape": shape, "min": low, "max": high, "channels": ranges, "picture": str(path)}
    emit(args, result, "\n".join([*lines, f"picture  {path}"]))
    return 0


def scaled(image: Tensor, side: int) -> Tensor:
    """An image (1, 1, H, W) scaled to `side` pixels on its longer side, if it is larger."""
    from torch.nn.functional import interpolate

    longest = max(image.shape[-2:])
    if longest <= side:
        return image
    size = [max(1, round(n * side / longest)) for n in image.shape[-2:]]
    return interpolate(image, size=size, mode="bilinear", antialias=True).clamp(0, 1)
