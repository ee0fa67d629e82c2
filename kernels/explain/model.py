"""explain for a whole model: a table with one line a call of this package, of what runs and how well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kernels.backend import backend
from kernels.explain.call import Explanation, explain_call
from kernels.explain.listen import listen
from kernels.explain.predicted import HEAD as PREDICTED
from kernels.explain.predicted import Predicted, predicted

WHOLE = ("lenet", "lenet_predict", "lenet_loss")
LEAST_SECONDS = 0.02
"""How long each thing is timed."""


@dataclass(frozen=True)
class LayerCall:
    """One call of this package's functions in a model.

    flops and bytes: the work the call cannot do without (a multiply-add is two; every tensor once). seconds: measured
    median, None if not asked for. share: of what this device can do, which is the larger of flops over the rate of a
    large matrix product and bytes over the rate of a copy of at least as many, both measured here; 1 at most.
    changes: time after / time before of the same call in another layout or dtype, measured. predicted: by the model of
    common/roofline.py, on the Triton path. What the card's table measured is in explanation.measured.
    """

    layer: str
    input: tuple[int, ...]
    weight: tuple[int, ...] | None
    dtype: str
    layout: str
    explanation: Explanation
    flops: float
    bytes: float
    seconds: float | None = None
    share: float | None = None
    changes: dict[str, float] = field(default_factory=dict)
    predicted: Predicted | None = None

    def cells(self) -> list[str]:
        """The columns of the table."""
        how = self.explanation
        kernels = ", ".join(_kernel(launch) for launch in how.launches) or how.reason
        weight = "" if self.weight is None else _by(self.weight)
        work = [f"{self.flops / 1e6:.4g}", f"{self.bytes / 1e6:.4g}"]
        timed = ["", "", ""]
        if self.seconds is not None:
            changes = ", ".join(f"{name} x{ratio:.2f}" for name, ratio in self.changes.items())
            timed = [f"{self.seconds * 1e6:.1f}", f"{100 * (self.share or 0):.0f} %", changes]
        where = [self.layer or "(root)", how.function, _by(self.input), weight, self.dtype, self.layout]
        table = ", ".join(f"{v.ours:.1f} (torch {v.torch:.1f})" for v in how.measured)
        guessed = [""] * len(PREDICTED) if self.predicted is None else self.predicted.cells()
        return [*where, how.path, *work, *timed, table, *guessed, kernels]


HEAD = (
    "layer",
    "function",
    "input",
    "weight",
    "dtype",
    "layout",
    "path",
    "MFLOP",
    "MB",
    "measured us",
    "of limit",
    "with",
    "table us",
    *PREDICTED,
    "kernels",
)


@dataclass(frozen=True)
class ModelExplanation:
    """The answer of `explain` for a model; print it to read it."""

    calls: tuple[LayerCall, ...]

    def __str__(self) -> str:
        if not self.calls:
            return (
                "no layer of this package was called: convert(model) exchanges torch's layers, and explain(function, "
                "...) answers for functions that a model calls itself"
            )
        lines = [list(HEAD), *(call.cells() for call in self.calls)]
        used = [i for i in range(len(HEAD)) if i in (0, len(HEAD) - 1) or any(line[i] for line in lines[1:])]
        width = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
        return "\n".join("  ".join(line[i].ljust(width[i]) for i in used).rstrip() for line in lines)


def explain(function: Callable[..., Any], *args: Any, measure: bool = False, **kwargs: Any) -> Any:
    """What a call of one of this package's functions, or of a model, would run, and why.

    function(*args, **kwargs): a function of this package -> `Explanation`, without running a kernel; or a torch model
    with an example input -> `ModelExplanation`, by running the model once without gradients: a line for each call of a
    layer of this package (see `convert`) or of `lenet`, fused ones as the one call that they are, with its time in the
    card's measured table where there is one, and its predicted time, share of the roofline, and what another layout or
    dtype would bring, where Triton runs it. measure: time each of these calls here, in its own layout and dtype and in
    others (models only; takes about 0.1 s a call).
    """
    if not isinstance(function, nn.Module):
        return explain_call(function, *args, **kwargs)
    names = {module: name for name, module in function.named_modules()}
    made: list[LayerCall] = []

    def note(layer: nn.Module, called: Callable[..., Any], given: Any, options: Any, result: Any) -> None:
        made.append(_describe(names.get(layer, "?"), called, given, options, result, measure))

    with listen(note), torch.no_grad():
        function(*args, **kwargs)
    return ModelExplanation(tuple(made))


def _describe(layer: str, called: Any, given: Any, options: Any, result: Any, measure: bool) -> LayerCall:
    x: Tensor = given[0]
    weight = given[1] if len(given) > 1 and isinstance(given[1], Tensor) else None
    outputs = result if isinstance(result, tuple) else (result,)
    tensors = [t for group in (*given, *outputs) for t in _tensors(group)]
    size = float(sum(t.numel() * t.element_size() for t in tensors))
    flops = _flops(called, given, options)
    # The fused LeNet takes one channel and dense weights: no other layout.
    layouts = called.__name__ not in WHOLE
    alternatives = {name: c for name, c in _changes(x).items() if layouts or isinstance(c, torch.dtype)}
    seconds, share, changes = None, None, {}
    if measure:
        seconds = _seconds(called, given, options)
        # Who is faster than a copy and a product shows that the device can do more.
        share = min(1.0, max(flops / _rate(x.device, x.dtype), size / _bandwidth(x.device, size)) / seconds)
        changes = {
            name: _seconds(called, [_changed(a, change) for a in given], options) / seconds
            for name, change in alternatives.items()
        }
    how = explain_call(called, *given, **options)
    others = {name: partial(_changed, change=change) for name, change in alternatives.items()}
    guess = predicted(how, called, given, options, flops, others)
    layout = "channels_last" if _is_channels_last(x) else "contiguous" if x.is_contiguous() else "strided"
    shape = None if weight is None else tuple(weight.shape)
    dtype = str(x.dtype).removeprefix("torch.")
    return LayerCall(
        layer,
        tuple(x.shape),
        shape,
        dtype,
        layout,
        how,
        flops,
        size,
        seconds,
        share,
        changes,
        guess,
    )


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def _flops(called: Any, given: Any, options: Any) -> float:
    """Of torch's own operators for the call, as torch counts them."""
    there = [_each(a, lambda t: t.to("meta")) for a in given]
    with FlopCounterMode(display=False) as counter, backend("torch"):
        called(*there, **options)
    return float(counter.get_total_flops())


def _seconds(called: Any, given: Any, options: Any) -> float:
    from torch.utils.benchmark import Timer  # a third of a second to import, and CUDA builds of torch complain

    scope = {"called": called, "given": given, "options": options}
    timer = Timer("called(*given, **options)", globals=scope, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=LEAST_SECONDS).median)


@cache
def _rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOPs a second of a large matrix product, measured."""
    size = 8192 if device.type == "cuda" else 768
    a = torch.randn(size, size, device=device).to(dtype)
    return 2 * size**3 / _seconds(torch.mm, (a, a), {})


def _bandwidth(device: torch.device, size: float) -> float:
    """Bytes a second (read and write counted) of the fastest copy that moves at least `size` bytes, or of the largest:
    what a cache holds moves faster than memory gives it."""
    copies = _copies(device)
    return max((rate for moved, rate in copies if moved >= size), default=copies[-1][1])


@cache
def _copies(device: torch.device) -> list[tuple[int, float]]:
    """Bytes that a copy moves, and how many a second, measured from 64 KiB up."""
    found = []
    for power in range(16, 31 if device.type == "cuda" else 28, 2):
        source = torch.ones(1 << power - 3, device=device)
        found.append((1 << power, (1 << power) / _seconds(torch.empty_like(source).copy_, (source,), {})))
    return found


def _changes(x: Tensor) -> dict[str, Any]:
    """What else the call could be given: the other layout, and the short floating dtype of the device."""
    changes: dict[str, Any] = {}
    if x.dim() == 4:
        other = torch.contiguous_format if _is_channels_last(x) else torch.channels_last
        changes["contiguous" if _is_channels_last(x) else "channels_last"] = other
    if x.dtype == torch.float32:
        short = torch.float16 if x.device.type == "cuda" else torch.bfloat16
        changes[str(short).removeprefix("torch.")] = short
    return changes


def _changed(value: Any, change: Any) -> Any:
    def one(t: Tensor) -> Tensor:
        if isinstance(change, torch.dtype):
            return t.to(change) if t.is_floating_point() else t
        return t.contiguous(memory_format=change) if t.dim() == 4 else t

    return _each(value, one)


def _tensors(value: Any) -> list[Tensor]:
    """The tensor that an argument is, or those of its list."""
    return [t for t in (value if isinstance(value, (list, tuple)) else (value,)) if isinstance(t, Tensor)]


def _each(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """An argument with its tensor, or those of its list, changed."""
    if isinstance(value, (list, tuple)) and any(isinstance(t, Tensor) for t in value):
        return [_each(t, change) for t in value]
    return change(value) if isinstance(value, Tensor) else value


def _kernel(launch: Any) -> str:
    tile = "x".join(str(value) for name, value in launch.arguments.items() if name.startswith("BLOCK"))
    return f"{launch.kernel.__name__} {tile} on {launch.grid} programs"


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)
