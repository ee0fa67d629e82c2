"""What `convert` did to a model, read off the model itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from kernels.convert.chain import flatten, followers, is_conv
from kernels.convert.fusing import ORIGINAL, analyse
from kernels.convert.layers import TORCHS, bare_type, layers_of, untouched, why_left
from kernels.convert.rewrite import UNKNOWN


@dataclass(frozen=True)
class Row:
    """One layer or container: its names in the model, its class, what became of it, and why or with what."""

    names: tuple[str, ...]
    layer: str
    state: str
    note: str = ""


@dataclass(frozen=True)
class Report:
    """The rows of a model; print it to read it."""

    rows: tuple[Row, ...]

    def __str__(self) -> str:
        lines = [(", ".join(n or "(root)" for n in r.names), r.layer, r.state, r.note) for r in self.rows]
        lines.insert(0, ("name", "layer", "state", "note"))
        width = [max(len(line[i]) for line in lines) for i in range(3)]
        return "\n".join(
            "  ".join((*(c.ljust(w) for c, w in zip(line, width, strict=False)), line[3])).rstrip() for line in lines
        )

    def count(self, state: str) -> int:
        """How many rows are in that state: "converted", "fused" or "left"."""
        return sum(row.state == state for row in self.rows)


def report(model: nn.Module) -> Report:
    """Every layer that `convert` looks for: "converted", "fused" (with what) or "left" (and why).

    It reads the model as it is now. "fused" is what a call does as long as the layers have no hooks.
    """
    names = layers_of(model)
    partners: dict[nn.Module, list[str]] = {}
    rows: list[Row] = []
    for module in names:
        found = analyse(module)
        if not hasattr(type(module), ORIGINAL):
            reasons = [] if not found.chains else ["a Conv -> ReLU in it is not fused: converted with fuse=False"]
            notes = [*found.reasons, *reasons] if _holds_conv(module) else []
            rows += [Row(tuple(names[module]), type(module).__name__, "left", note) for note in notes]
            continue
        for chain in found.chains:
            rest = _note_partners(chain.steps, partners, names)
            if rest:
                rows.append(Row(tuple(names[module]), type(module).__name__, "fused", f"at each call ({chain.place})"))
    for layer, known in names.items():
        row = _row(layer, tuple(known), partners.get(layer, []))
        if row is not None:
            rows.append(row)
    order = {name: i for i, name in enumerate(n[0] for n in names.values())}
    return Report(tuple(sorted(rows, key=lambda r: order[r.names[0]])))


def _holds_conv(module: nn.Module) -> bool:
    return any(isinstance(child, nn.Conv2d) for child in module.children())


def _row(layer: nn.Module, names: tuple[str, ...], partners: list[str]) -> Row | None:
    reason = why_left(layer)
    if reason is not None:
        return Row(names, type(layer).__name__, "left", reason)
    if bare_type(layer) not in TORCHS:
        return None
    if not partners:
        return Row(names, bare_type(layer).__name__, "converted")
    note = "with " + "; ".join(dict.fromkeys(partners))
    hooked = "" if untouched(layer) else ", but not while it has hooks"
    return Row(names, bare_type(layer).__name__, "fused", note + hooked)


def _note_partners(steps: Any, partners: dict[nn.Module, list[str]], names: dict[nn.Module, list[str]]) -> bool:
    """Add what each convolution of a chain takes along; whether some of it only a run can tell."""
    flat = flatten(steps)
    for i, step in enumerate(flat):
        taken, relu, _ = followers(flat, i + 1) if is_conv(step) else (0, False, None)
        if relu:
            partners.setdefault(step, []).append(_labels(flat[i + 1 : i + 1 + taken], names))
    return any(step is UNKNOWN for step in flat)


def _labels(steps: list[Any], names: dict[nn.Module, list[str]]) -> str:
    return " and ".join(_label(step, names) for step in steps if type(step) is not nn.Identity)


def _label(step: Any, names: dict[nn.Module, list[str]]) -> str:
    if isinstance(step, nn.Module):
        return f"{type(step).__name__} ({names[step][0]})" if step in names else type(step).__name__
    if isinstance(step, str):
        return f".{step}()"
    function = step[0] if isinstance(step, tuple) else step
    return str(getattr(function, "__name__", function))
