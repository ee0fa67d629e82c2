"""Main loops on sm_90 beside what prototypes of the same loops had there: `bench inspect --loops`.

The prototypes were compiled before this package was written, to see what Triton can do; the matrix product had none,
and is held to the batch kernel's; nor had strips, which are held to what they were when they were written. A count of
instructions is no time, but more of them a product than these mean that something is computed which need not be.
Three TF32 products are made of halves that are cut in registers, and multiply-adds have their operands there: these two
are held to their instructions and to copies of 16 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.machine_code.compile import CARDS, compile_launch
from bench.machine_code.jobs import products
from bench.machine_code.plans import PRECISIONS, launches, shape
from bench.machine_code.read import disassembly, read
from kernels.common.device import assume_card
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.plan import Plan
from kernels.conv2d.plans.tiles import Tile

TARGET = "sm_90"
MARGIN = 1.1
"""A loop may have so many times the prototype's instructions."""
SQUARE, STRIDED = shape(128, 256, (14, 14), 256, (3, 3)), shape(128, 256, (14, 14), 256, (3, 3), 2)
FEW, ODD = shape(2, 256, (28, 28), 256, (3, 3)), shape(128, 72, (14, 14), 136, (3, 3))
SAME = shape(32, 64, (32, 32), 64, (3, 3))
POINT, STEM = shape(64, 256, (14, 14), 256, (1, 1)), shape(64, 1, (28, 28), 6, (5, 5))


@dataclass(frozen=True)
class Loop:
    """A pass with a plan, and what a prototype's loop had: instructions for so many products (HGMMA or FFMA)."""

    name: str
    which: str
    g: Conv2dGeometry
    precision: str
    plan: Plan
    instructions: int
    products: int


def _strips(*tile: int) -> Plan:
    return Plan("strips", Tile(*tile), True)


def _three(*tile: int) -> Plan:
    return Plan("batch", Tile(*tile), True, tf32x3=True)


def _gemm(*tile: int) -> Plan:
    return Plan("gemm", Tile(*tile), True)


def _batch(*tile: int) -> Plan:
    return Plan("batch", Tile(*tile), True)


LOOPS = (
    Loop("gather 128x128", "fprop", SQUARE, "float16", _gemm(128, 128, 64, 8, 3), 111, 4),
    Loop("gather 128x128, 72-136", "fprop", ODD, "float16", _gemm(128, 128, 64, 8, 3), 111, 4),
    Loop("gather wgrad 128x128, 72-136", "wgrad", ODD, "float16", _gemm(128, 128, 64, 8, 3), 209, 4),
    Loop("gather 128x64", "fprop", SQUARE, "float16", _gemm(128, 64, 64, 4, 3), 143, 8),
    Loop("gather dgrad 128x128", "dgrad", SQUARE, "float16", _gemm(128, 128, 64, 8, 3), 157, 4),
    Loop("gather wgrad 128x128", "wgrad", SQUARE, "float16", _gemm(128, 128, 64, 8, 3), 209, 4),
    Loop("batch 128x128", "fprop", SQUARE, "float16", _batch(128, 128, 64, 8, 4), 124, 4),
    Loop("batch 128x256", "fprop", SQUARE, "float16", _batch(128, 256, 64, 8, 4), 127, 4),
    Loop("batch 128x256, stride 2", "fprop", STRIDED, "float16", _batch(128, 256, 64, 8, 4), 130, 4),
    Loop("box 128x128", "fprop", FEW, "float16", _batch(128, 128, 64, 8, 4), 115, 4),
    Loop("batch 128x128 tf32", "fprop", SQUARE, "float32", _batch(128, 128, 32, 8, 4), 124, 4),
    Loop("batch 128x128 tf32x3", "fprop", SQUARE, "tf32x3", _three(128, 128, 32, 8, 4), 498, 12),
    Loop("gather 128x64 float32", "fprop", SQUARE, "ieee", _gemm(128, 64, 16, 8, 2), 1165, 1024),
    Loop("batch dgrad 128x256", "dgrad", SQUARE, "float16", _batch(128, 256, 64, 8, 4), 117, 4),
    Loop("batch dgrad 128x128, stride 2", "dgrad", STRIDED, "float16", _batch(128, 128, 64, 8, 4), 117, 4),
    Loop("batch wgrad 128x256", "wgrad", SQUARE, "float16", _batch(128, 256, 64, 8, 4), 130, 4),
    Loop("strips 64x64", "fprop", SAME, "float16", _strips(64, 64, 64, 4, 2), 383, 48),
    Loop("strips pool 64x64", "fprop_pool", SAME, "float16", _strips(64, 64, 64, 4, 2), 383, 48),
    Loop("strips dgrad 64x64", "dgrad", SAME, "float16", _strips(64, 64, 64, 4, 2), 383, 48),
    Loop("strips wgrad 64x64", "wgrad", SAME, "float16", _strips(64, 64, 32, 4, 3), 404, 24),
    Loop("batch pool 64x128", "fprop_pool", SQUARE, "float16", _batch(64, 128, 64, 8, 3), 219, 16),
    Loop("matrix product 128x256", "fprop", POINT, "float16", Plan("matmul", Tile(128, 256, 64, 8, 4), True), 127, 4),
    Loop("patch 5x5 pooled", "fprop_pool", STEM, "float32", Plan("patch", None), 284, 200),
)


@dataclass(frozen=True)
class Found:
    """A loop as it is compiled now: `counts` as `Report.loop` has them. rounds: it rounds operands to TF32 itself,
    through registers, since this Triton (3.6) cannot tell TMA to; then no prototype is like it."""

    loop: Loop
    counts: dict[str, int]
    rounds: bool = False

    @property
    def share(self) -> float:
        """Instructions for a product against the prototype's."""
        kind = "fma" if self.loop.plan.algorithm == "patch" or self.loop.precision == "ieee" else "wgmma"
        ours = self.counts["all"] / max(1, self.counts.get(kind, 0))
        return ours / (self.loop.instructions / self.loop.products)

    @property
    def is_good(self) -> bool:
        """Whether it has hardly more instructions, reads no operand of a single pixel's box into registers (strips: one
        of both), and copies 16 bytes at a time."""
        if self.rounds:
            return True
        counts, several = self.counts, self.loop.g == FEW
        most = counts.get("wgmma", 0) // 2 if self.loop.plan.algorithm == "strips" else 4 if several else 0
        narrow = counts.get("async_copy", 0) - counts.get("async_copy_16", 0)
        if counts.get("wait", 0) > counts.get("wgmma", 0) // 2:
            return False  # ptxas lets no product run while the next one is asked for
        if self.loop.precision in ("tf32x3", "ieee"):
            return self.share <= MARGIN and not narrow
        return self.share <= MARGIN and not narrow and counts.get("shared_load", 0) <= most

    def __str__(self) -> str:
        loop, counts = self.loop, self.counts
        rest = " ".join(f"{name}={count}" for name, count in counts.items() if name != "all")
        head = f"{loop.name:30} {loop.which:10} {loop.precision:8} prototype {loop.instructions:3}"
        return f"{head}  ours {counts['all']:3}  {self.share:.2f}x  {rest}{'' if self.is_good else '  TOO MUCH'}"


def compiled(loop: Loop) -> Found:
    """The loop of our kernel, from this Triton."""
    with assume_card(CARDS[TARGET]), products(loop.precision):
        found = list(launches(loop.which, loop.g, PRECISIONS[loop.precision], True, loop.plan))
    main = next(launch for launch in found if "pack" not in launch.kernel.__name__)
    rounds = loop.plan.algorithm == "batch" and main.arguments["PRECISION"] == "tf32"
    code = compile_launch(main, TARGET)
    counts = read(code).loop
    if loop.plan.algorithm == "strips":
        counts = counts | {"wait": sum("WARPGROUP.DEPBAR" in line for line in disassembly(code.code, "-c"))}
    return Found(loop, counts, rounds)
