"""cnn summary: what a network costs and sees, layer by layer."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cnn.options import add_json, emit
from cnn.subject import add_model

if TYPE_CHECKING:
    from cnn.see.arithmetic import Row

NAME = "summary"
HELP = "list layers, shapes, parameters, multiply-adds, receptive fields, and what sharing filters saves"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options: which model."""
    parser.formatter_class = argparse.HelpFormatter
    add_model(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table and the counts of the first convolution in its three forms."""
    from cnn.see.arithmetic import connections, summary
    from cnn.see.trace import trace
    from cnn.subject import bare_model

    model, image = bare_model(args)
    seen = trace(model, image)
    rows = summary(seen)
    total = {"parameters": sum(r.parameters for r in rows), "multiply_adds": sum(r.multiply_adds for r in rows)}
    layers = [as_dict(r) for r in rows]
    lines = [table(rows), f"sum: {total['parameters']:,} parameters, {total['multiply_adds']:,} multiply-adds"]
    result: dict[str, Any] = {"layers": layers, **total, "connections": {}}
    for step in seen.steps:
        before = seen.input_of(step)
        if step.op.kind == "conv" and before is not None:
            counts = connections(step, tuple(before.shape[1:]))
            result["connections"][step.name] = vars(counts)
            lines.append(
                f"{step.name}: fully connected {counts.dense:,} weights and biases, "
                f"locally connected {counts.local:,}, shared {counts.shared:,}"
            )
    emit(args, result, "\n".join(lines))
    return 0


def as_dict(row: Row) -> dict[str, Any]:
    """Plain values for a program; receptive_field is [rows, columns] or null."""
    field = None if row.field is None else [side.size for side in row.field]
    return {
        "name": row.name,
        "kind": row.kind,
        "shape": list(row.shape),
        "parameters": row.parameters,
        "multiply_adds": row.multiply_adds,
        "receptive_field": field,
    }


def table(rows: list[Row]) -> str:
    """The rows for a terminal."""
    from cnn.see.arithmetic import reach
    from cnn.see.steps import KIND_NAMES

    cells = [("step", "what", "output", "parameters", "multiply-adds", "sees")]
    for r in rows:
        shape = " x ".join(map(str, r.shape))
        cells.append((r.name, KIND_NAMES[r.kind], shape, f"{r.parameters:,}", f"{r.multiply_adds:,}", reach(r.field)))
    widths = [max(len(row[i]) for row in cells) for i in range(6)]
    aligned = [
        "  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in aligned)
