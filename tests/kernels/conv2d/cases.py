"""Convolutions with names that say what each breaks."""

from tests.kernels.problems import conv

CASES = (
    conv("plain", (2, 3, 9, 8), (5, 3, 3, 3)),
    conv("no bias", (2, 3, 6, 7), (4, 3, 2, 3), bias=False),
    conv("one pixel, one tap", (2, 3, 1, 1), (4, 3, 1, 1)),
    conv("one pixel, padded", (1, 2, 1, 1), (3, 2, 3, 3), padding=1),
    conv("kernel as large as the padded input", (2, 3, 4, 3), (4, 3, 6, 5), padding=1),
    conv("one image row", (2, 3, 1, 9), (4, 3, 1, 3), padding=(0, 1)),
    conv("one channel in and out", (3, 1, 6, 6), (1, 1, 3, 3), padding=1),
    conv("primes", (2, 5, 11, 7), (3, 5, 5, 3), padding=(2, 1)),
    conv("unequal strides", (2, 3, 9, 10), (4, 3, 3, 3), stride=(2, 3), padding=(1, 0)),
    conv("stride beyond the kernel", (2, 3, 11, 10), (4, 3, 2, 2), stride=(4, 3)),
    conv("stride 2, dilation 2: whole phases without a tap", (2, 3, 10, 9), (4, 3, 3, 3), stride=2, dilation=2),
    conv("stride 4, dilation 6", (1, 2, 22, 21), (3, 2, 3, 3), stride=4, dilation=6, padding=5),
    conv("stride 3, dilation 2", (1, 2, 12, 11), (3, 2, 4, 3), stride=3, dilation=2, padding=2),
    conv("last rows unread by the stride", (1, 2, 8, 8), (3, 2, 3, 3), stride=3),
    conv("padding beyond the kernel", (1, 2, 3, 3), (3, 2, 2, 2), padding=4),
    conv("same, odd", (2, 3, 6, 7), (4, 3, 3, 5), padding="same"),
    conv("same, even: the extra row comes last", (2, 3, 6, 7), (4, 3, 4, 2), padding="same"),
    conv("same, dilated even", (2, 3, 6, 7), (4, 3, 2, 4), padding="same", dilation=(3, 1)),
    conv("valid", (2, 3, 6, 7), (4, 3, 3, 3), padding="valid"),
    conv("thin groups", (2, 6, 6, 7), (9, 2, 3, 3), groups=3, padding=1),
    conv("depthwise", (2, 5, 6, 7), (5, 1, 3, 3), groups=5, padding=1),
    conv("depthwise with a multiplier, strided, dilated", (2, 3, 9, 9), (6, 1, 3, 2), groups=3, stride=2, dilation=2),
    conv("groups as wide as a tile", (1, 36, 5, 4), (34, 18, 3, 2), groups=2, padding=1),
    conv("groups of one channel, many outputs", (1, 2, 5, 5), (40, 1, 3, 3), groups=2),
    conv("groups of many channels, one output", (1, 40, 5, 5), (2, 20, 3, 3), groups=2),
    conv("groups of many channels, nine outputs", (1, 132, 3, 4), (18, 66, 2, 2), groups=2),
    conv("channels beyond one block of K", (1, 70, 4, 5), (18, 70, 2, 2)),
    conv("outputs beyond one block of N", (1, 5, 4, 5), (140, 5, 2, 2)),
    conv("pixels beyond one block of M", (2, 2, 7, 11), (3, 2, 2, 2), padding=1),
    conv("pixels beyond one split", (2, 1, 17, 17), (2, 1, 2, 2)),
    conv("empty batch", (0, 3, 6, 7), (4, 3, 3, 3)),
    conv("unbatched", (3, 6, 7), (4, 3, 3, 3), padding=1),
    conv("tuple of one", (2, 3, 6, 7), (4, 3, 3, 3), stride=(2,), padding=[1], dilation=(1,)),
)
BY_NAME = {case.name: case for case in CASES}
CORE = [
    BY_NAME[name]
    for name in (
        "primes",
        "unequal strides",
        "same, even: the extra row comes last",
        "groups as wide as a tile",
        "depthwise",
    )
]
FUSED = (
    conv("pool", (2, 3, 8, 9), (5, 3, 3, 3), function="conv2d_relu_pool2d"),
    conv(
        "pool, strided, padded", (2, 3, 12, 13), (5, 3, 3, 2), function="conv2d_relu_pool2d", stride=(2, 1), padding=2
    ),
    conv("pool, dilated, no bias", (2, 3, 9, 9), (5, 3, 3, 2), False, "conv2d_relu_pool2d", dilation=(1, 2)),
    conv("pool drops an odd row and column", (1, 2, 7, 9), (3, 2, 3, 3), function="conv2d_relu_pool2d"),
    conv("pool of many channels", (1, 40, 5, 6), (18, 40, 2, 3), function="conv2d_relu_pool2d"),
    conv("pool, wide groups", (1, 36, 5, 6), (36, 18, 2, 3), function="conv2d_relu_pool2d", groups=2),
    conv("pool, depthwise", (2, 4, 6, 7), (4, 1, 3, 3), function="conv2d_relu_pool2d", groups=4, padding=1),
    conv("pool, same", (2, 3, 6, 8), (4, 3, 4, 2), function="conv2d_relu_pool2d", padding="same"),
    conv("pool of a single window", (2, 3, 4, 4), (4, 3, 3, 3), function="conv2d_relu_pool2d"),
    conv("pool, unbatched", (3, 6, 8), (4, 3, 3, 3), function="conv2d_relu_pool2d"),
    conv("pool, empty batch", (0, 3, 6, 8), (4, 3, 3, 3), function="conv2d_relu_pool2d"),
    conv(
        "pool 3 stride 2", (2, 3, 9, 8), (4, 3, 3, 3), function="conv2d_relu_pool2d", pool_kernel_size=3, pool_stride=2
    ),
    conv(
        "pool 3 stride 1 padded ceil",
        (2, 3, 9, 8),
        (4, 3, 3, 3),
        function="conv2d_relu_pool2d",
        pool_kernel_size=(3, 2),
        pool_stride=(2, 2),
        pool_padding=1,
        ceil_mode=True,
    ),
    conv("pool 2 ceil over an odd map", (1, 2, 7, 9), (3, 2, 3, 3), function="conv2d_relu_pool2d", ceil_mode=True),
)
