"""What a network costs and how far a cell sees: shapes, parameters, multiply-adds, receptive fields, connections."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from cnn.errors import UserError
from cnn.see.trace import Step, Trace

WINDOWED = ("conv", "max", "avg")


def output_size(i: int, k: int, s: int = 1, p: int = 0, d: int = 1) -> int:
    """O = floor((I + 2P - D(K-1) - 1) / S) + 1, all in pixels along one side; UserError where no window fits."""
    if min(i, k, s, d) < 1 or p < 0:
        raise UserError(
            f"input {i}, kernel {k}, stride {s} and dilation {d} must be at least 1, padding {p} at least 0"
        )
    span = d * (k - 1) + 1
    if i + 2 * p < span:
        raise UserError(
            f"a window of {span} does not fit into {i} + 2 * {p} pixels; use a smaller kernel or more padding"
        )
    return (i + 2 * p - span) // s + 1


def windows(i: int, k: int, s: int = 1, p: int = 0, d: int = 1) -> list[int]:
    """The first pixel of every window along one side; negative inside the padding."""
    return [-p + step * s for step in range(output_size(i, k, s, p, d))]


@dataclass(frozen=True)
class Field:
    """Along one side: a cell sees `size` pixels of the image, the next cell as many, `jump` further."""

    size: int = 1
    jump: int = 1

    def through(self, k: int, s: int, d: int) -> Field:
        """The field after a window of k taps, stride s, dilation d."""
        return Field(self.size + (k - 1) * d * self.jump, self.jump * s)


@dataclass(frozen=True)
class Row:
    """One line of a summary. shape: output without the batch; field: rows then columns, None where unknown."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    field: tuple[Field, Field] | None


def summary(seen: Trace) -> list[Row]:
    """One row for each step of a trace, in order."""
    fields = receptive_fields(seen)
    return [
        Row(s.name, s.op.kind, tuple(s.output.shape[1:]), s.op.parameters, multiply_adds(s), f)
        for s, f in zip(seen.steps, fields, strict=True)
    ]


def multiply_adds(step: Step) -> int:
    """Multiplications of one image's convolution or linear step, each with one addition; 0 for other steps."""
    weight = step.op.weight
    if weight is None or step.op.kind not in ("conv", "linear"):
        return 0
    return prod(step.output.shape[1:]) * prod(weight.shape[1:])


def receptive_fields(seen: Trace) -> list[tuple[Field, Field] | None]:
    """For each step the (rows, columns) field of one cell; after flattening, the whole image; None where unknown."""
    height, width = seen.image.shape[-2:]
    whole = (Field(height, 0), Field(width, 0))
    fields: list[tuple[Field, Field] | None] = []
    for step in seen.steps:
        if step.source is None:
            fields.append(None)
            continue
        before = (Field(), Field()) if step.source < 0 else fields[step.source]
        op = step.op
        if before is None or op.kind in ("flatten", "linear"):
            fields.append(whole if before is not None else None)
        elif op.kind in WINDOWED:
            sizes = zip(before, op.kernel, op.stride, op.dilation, strict=True)
            rows, columns = (f.through(k, s, d) for f, k, s, d in sizes)
            fields.append((rows, columns))
        else:
            fields.append(before if op.kind != "other" else None)
    return fields


def reach(field: tuple[Field, Field] | None) -> str:
    """A receptive field in words: 5 x 5 (pixels in the padding are counted), everything, not known."""
    if field is None:
        return "not known"
    down, across = field
    return "everything" if down.jump == 0 else f"{down.size} x {across.size}"


@dataclass(frozen=True)
class Connections:
    """Weights and biases of one layer, were it fully connected, locally connected, or sharing its filter (a conv)."""

    dense: int
    local: int
    shared: int


def connections(step: Step, input_shape: tuple[int, ...]) -> Connections:
    """The three counts for a convolution step whose input is (C, H, W)."""
    if step.op.weight is None or step.op.kind != "conv":
        raise UserError(f"{step.name} is {step.op.kind}, not a convolution")
    units, taps = prod(step.output.shape[1:]), prod(step.op.weight.shape[1:])
    bias = 0 if step.op.bias is None else 1
    filters = step.op.weight.shape[0]
    return Connections(
        dense=units * (prod(input_shape) + bias), local=units * (taps + bias), shared=filters * (taps + bias)
    )


@dataclass(frozen=True)
class Bird:
    """A fully connected layer on one photo, which an article prices at 190 million weights."""

    height: int = 2031
    width: int = 3082
    channels: int = 3
    hidden: int = 10_000_000
    claimed_weights: int = 190_000_000

    @property
    def inputs(self) -> int:
        """One number for each pixel and channel."""
        return self.height * self.width * self.channels

    @property
    def weights(self) -> int:
        """Every input to every hidden unit."""
        return self.inputs * self.hidden

    @property
    def bytes(self) -> int:
        """The weights in float32."""
        return 4 * self.weights

    @property
    def conv_parameters(self) -> int:
        """A 3x3 convolution from the photo to 64 maps: weights and biases, whatever the photo's size."""
        return 64 * (3 * 3 * self.channels + 1)
