"""Rows made ready for tables and figures: each contender's newest time beside torch's best of the same run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import rows
from bench.ratio import verdict
from bench.rows import Row
from cnn.errors import UserError

OURS, FUSED, TORCH = "ours", "ours_fused", "eager"
NAMES = {
    "ours": "this package",
    "eager": "torch",
    "compile": "torch.compile",
    "compile_reduce": "torch.compile reduce-overhead",
    "compile_max": "torch.compile max-autotune",
    "eager_graph": "torch, CUDA graph",
    "ours_graph": "this package, CUDA graph",
    "cudnn_fused": "cuDNN fused",
    "onnxruntime": "ONNX Runtime",
    "flaggems": "FlagGems",
}


# What a row of a command that measures something of its own may leave out.
PLAIN: Row = {"metric": "other", "layout": "", "status": "ok"}


@dataclass(frozen=True)
class Timed:
    """A case with each provider's fastest row, by the metric that the device is judged by."""

    case: str
    row: Row
    by_provider: dict[str, Row]
    faults: tuple[str, ...]

    def ratio(self, provider: str = OURS, base: str = TORCH) -> float | None:
        """How many times faster `provider` is than `base`; None when one has no time.

        Against torch it is measured in the turns of one run; between two rivals it goes through torch, so that rows of
        different runs can meet.
        """
        ours = self.by_provider.get(provider, {}).get("ratio")
        theirs = 1.0 if base == TORCH else self.by_provider.get(base, {}).get("ratio")
        return None if ours is None or theirs is None else float(ours) / float(theirs)

    @property
    def interval(self) -> tuple[float, float]:
        """What the rounds leave open of the ratio between this package and torch; (1, 1) without both times."""
        ours = self.by_provider.get(OURS, {})
        return float(ours.get("ratio_low", 1.0)), float(ours.get("ratio_high", 1.0))

    @property
    def standing(self) -> str:
        """ "faster" or "slower" when the whole interval lies beyond 3 %, else "equal"; "missing" without both times."""
        if self.ratio() is None:
            return "missing"
        return {"larger": "faster", "smaller": "slower", "same": "equal"}[verdict(*self.interval)]


@dataclass(frozen=True)
class Device:
    """The rows of one folder of results."""

    folder: str
    rows: list[Row]

    @property
    def about(self) -> Row:
        """Any row, for the device's name and kind."""
        return self.rows[0]

    @property
    def metric(self) -> str:
        """What cases are compared by: the device's own time on a card, wall time on a CPU."""
        return "device" if self.about["kind"] == "cuda" else "wall"

    @property
    def threads(self) -> int:
        """The number of CPU threads that most rows were taken with; tables and figures show these rows."""
        return int(Counter(row["threads"] for row in self.rows).most_common(1)[0][0])

    def of(self, *metrics: str) -> list[Row]:
        """The rows of these metrics."""
        return [row for row in self.rows if row["metric"] in metrics and row["threads"] == self.threads]

    def others(self) -> list[Row]:
        """The rows that are no case's time: cold start, memory, host cost and what other commands measured."""
        return [row for row in self.rows if row["metric"] not in ("wall", "device", "limit") and "value" in row]

    def timed(self, metric: str = "") -> list[Timed]:
        """Every case in the order of the rows."""
        metric = metric or self.metric
        found: dict[str, list[Row]] = {}
        for row in self.of(metric, "wall") if metric != "wall" else self.of("wall"):
            found.setdefault(row["case"], []).append(row)
        return [_timed(case, of_case, metric) for case, of_case in found.items()]


def _timed(case: str, found: Iterable[Row], metric: str) -> Timed:
    best: dict[str, Row] = {}
    faults = []
    listed = list(found)
    for row in listed:
        if row["status"] != "ok":
            faults.append(f"{row['provider']}/{row['layout']} {row['status']}: {row.get('reason', '')}".strip())
        elif row["metric"] == metric and "value" in row:
            name = row["provider"]
            if name == FUSED:
                # The package's own choice of form, as a memory format is torch's.
                name, row = OURS, {**row, "layout": "fused"}
            if name not in best or row["value"] < best[name]["value"]:
                best[name] = row
    return Timed(case, next(iter(best.values()), listed[0]), best, tuple(faults))


def devices(results: Path) -> list[Device]:
    """Every device that has rows; UserError when there are none. A CPU's times never enter a card's rows."""
    found = []
    for folder in sorted(results.glob("*/")):
        files = sorted(folder.glob("*.jsonl"))
        everything = [{**PLAIN, **row} for file in files for row in rows.lines(file) if "case" in row]
        listed = rows.newest(everything)
        if not listed:
            continue
        kinds = {(row["kind"], row["device"]) for row in listed}
        if len(kinds) != 1:
            raise UserError(f"{folder}: rows of different devices in one folder: {sorted(kinds)}")
        found.append(Device(folder.name, listed))
    if not found:
        raise UserError(f"{results} has no rows; `python -m bench run` measures them")
    return found


def amount(microseconds: float) -> str:
    """A time for a person: three digits and a unit."""
    for unit, factor in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= factor:
            return f"{microseconds / factor:.3g} {unit}"
    return f"{microseconds:.3g} µs"


def versions(row: Row) -> str:
    """The versions of a row in a line."""
    listed: dict[str, Any] = row["versions"]
    return ", ".join(f"{name} {value}" for name, value in listed.items())
