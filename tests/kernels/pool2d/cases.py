"""Pools with names that say what each breaks."""

from typing import Any

from tests.kernels.problems import Problem


def _both(name: str, x: tuple[int, ...], kernel_size: Any, **options: Any) -> list[Problem]:
    return [
        Problem(f"{kind} {name}", f"{kind}_pool2d", (x,), {"kernel_size": kernel_size, **options})
        for kind in ("max", "avg")
        if kind == "max" or "dilation" not in options
    ]


CASES = [
    *_both("2x2", (2, 3, 6, 8), 2),
    *_both("3x3 over even planes", (2, 3, 6, 8), 3, stride=2, padding=1),
    *_both("3x3 over even planes, ceil", (2, 3, 6, 8), 3, stride=2, ceil_mode=True),
    *_both("3x3 over even planes, beyond one block", (2, 3, 20, 18), 3, stride=2, padding=1),
    *_both("3x3 over a plane of one square", (3, 2, 2, 2), 3, stride=2, padding=1),
    *_both("whole plane, many pixels", (2, 5, 23, 24), (23, 24)),
    *_both("whole plane in parts", (1, 2, 70, 70), 70),
    *_both("whole plane, channels beyond a block", (2, 70, 3, 4), (3, 4)),
    *_both("overlapping", (2, 3, 7, 8), 3, stride=2, padding=1),
    *_both("stride beyond the window", (2, 3, 9, 8), 2, stride=(3, 4)),
    *_both("unequal window", (2, 3, 7, 8), (2, 3), stride=(1, 2), padding=(1, 0)),
    *_both("rows and columns left over", (1, 2, 8, 7), 3),
    *_both("ceil over what is left", (1, 2, 8, 7), 3, ceil_mode=True),
    *_both("ceil, padded: the last window would start in the padding", (1, 2, 5, 4), 2, padding=1, ceil_mode=True),
    *_both("ceil, the window beyond the padded image", (1, 2, 4, 4), 3, stride=2, padding=1, ceil_mode=True),
    *_both("window larger than the image", (1, 2, 2, 3), (4, 5), padding=2, ceil_mode=True),
    *_both("whole image", (2, 3, 5, 4), (5, 4)),
    *_both("one pixel", (2, 3, 1, 1), 1),
    *_both("one channel", (2, 1, 5, 4), 2),
    *_both("stride 1", (1, 2, 5, 5), 3, stride=1, padding=1),
    *_both("stride 1, rows of 16 bytes", (2, 3, 9, 16), 3, stride=1, padding=1),
    *_both("stride 1, rows of 8 bytes, channels of 16", (1, 16, 4, 6), 3, stride=1, padding=1),
    *_both("stride 1, a row", (2, 8, 1, 8), 3, stride=1, padding=1),
    *_both("stride 1, a column", (2, 8, 6, 1), 3, stride=1, padding=1),
    *_both("stride 1, rows of 9", (2, 2, 6, 9), 3, stride=1, padding=1),
    *_both("5x5, stride 1, rows of 16 bytes", (1, 2, 9, 16), 5, stride=1, padding=2),
    *_both("5x5, stride 1, odd rows, channels of 16 bytes", (2, 8, 5, 7), 5, stride=1, padding=2),
    *_both("5x5, stride 1, a plane smaller than the window", (1, 3, 3, 2), 5, stride=1, padding=2),
    *_both("window of 64 taps", (1, 2, 9, 9), 8, stride=1, padding=4),
    *_both("7x7, stride 1", (2, 3, 9, 16), 7, stride=1, padding=3),
    *_both("9x4, stride 1, channels of 16 bytes", (1, 8, 12, 11), (9, 4), stride=1, padding=(3, 2)),
    *_both("13x13, stride 1, a plane smaller than half of it", (2, 2, 5, 4), 13, stride=1, padding=6),
    *_both("beyond one block", (2, 3, 13, 11), 2, stride=1),
    *_both("unbatched", (3, 6, 7), 3, stride=2, padding=1),
    *_both("empty batch", (0, 3, 6, 7), 3, stride=2, padding=1),
    *_both("tuple of one", (2, 3, 6, 7), [2], stride=(2,), padding=(1,)),
    *_both("empty stride means the window", (2, 3, 6, 7), (3, 2), stride=[]),
    *_both("dilated", (1, 2, 9, 8), 3, stride=2, dilation=2),
    *_both("dilated, padded, unequal", (1, 2, 9, 8), (3, 2), stride=(1, 3), padding=1, dilation=(2, 3)),
    *_both("stride 2, dilation 4: phases without a tap", (1, 2, 12, 11), 3, stride=2, dilation=4, padding=1),
    *_both("dilated ceil", (1, 2, 10, 9), 3, stride=2, dilation=2, padding=1, ceil_mode=True),
    Problem(
        "avg without the padding",
        "avg_pool2d",
        ((2, 3, 7, 6),),
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
    ),
    Problem(
        "avg without the padding, ceil",
        "avg_pool2d",
        ((2, 3, 6, 6),),
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
    ),
    Problem(
        "avg of even planes without the padding",
        "avg_pool2d",
        ((2, 3, 6, 8),),
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
    ),
    Problem(
        "avg, stride 1, without the padding",
        "avg_pool2d",
        ((2, 8, 6, 8),),
        {"kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": False},
    ),
    Problem(
        "avg, stride 1, without the padding, odd",
        "avg_pool2d",
        ((2, 3, 3, 3),),
        {"kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": False},
    ),
    Problem(
        "avg, 5x5, stride 1, without the padding",
        "avg_pool2d",
        ((2, 3, 6, 5),),
        {"kernel_size": 5, "stride": 1, "padding": 2, "count_include_pad": False},
    ),
    Problem(
        "avg, stride 1, divisor",
        "avg_pool2d",
        ((2, 3, 5, 8),),
        {"kernel_size": 3, "stride": 1, "padding": 1, "divisor_override": -5},
    ),
    Problem("avg of planes, divisor", "avg_pool2d", ((2, 9, 5, 4),), {"kernel_size": (5, 4), "divisor_override": -3}),
    Problem(
        "avg of even planes, ceil, divisor",
        "avg_pool2d",
        ((2, 3, 6, 8),),
        {"kernel_size": 3, "stride": 2, "ceil_mode": True, "divisor_override": 7},
    ),
    Problem(
        "avg with a divisor",
        "avg_pool2d",
        ((2, 3, 7, 6),),
        {"kernel_size": 3, "stride": 2, "padding": 1, "divisor_override": 5},
    ),
    Problem(
        "avg with a negative divisor",
        "avg_pool2d",
        ((2, 3, 7, 6),),
        {"kernel_size": 3, "stride": 2, "divisor_override": -2},
    ),
]
HUGE_WINDOW = _both("window of 272 taps: codes beyond one byte", (1, 1, 17, 16), (16, 17), stride=1, padding=(0, 1))
