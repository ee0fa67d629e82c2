"""A run of many cases: the device made ready once, rows written and printed as they come."""

from __future__ import annotations

import argparse
import gc
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench import rows
from bench.cases import Case
from bench.clock import Clock, clocks
from bench.facts import FATAL, facts, results_folder
from bench.limits import Limits, measure_limits
from bench.providers import Provider, providers
from bench.rows import Row
from bench.run import one_line, row_of, run_case

# The metrics of the rows that a session writes; other commands' rows in the same file are theirs.
WRITTEN = ("wall", "device", "host", "limit")
PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "tf32", "fp16", "bf16")}


@dataclass
class Session:
    """Where the rows go, and what every case of the run shares."""

    path: Path
    device: torch.device
    providers: list[Provider]
    clocks: list[Clock]
    limits: Limits | None
    facts: dict[str, Any]
    seconds: float
    check: bool = False
    marker: Path | None = None
    wrong: int = 0
    broken: bool = False

    @classmethod
    def start(cls, args: argparse.Namespace, device: torch.device) -> Session:
        """Sets the threads, verifies the clocks and measures the machine's limits."""
        torch.set_num_threads(args.threads)
        path = args.out or results_folder(device) / "rows.jsonl"
        if args.fresh:
            rows.drop(path, WRITTEN)
        session = cls(
            path,
            device,
            providers(args.providers),
            clocks(device),
            None,
            facts(device, args.commit),
            args.seconds,
            args.check,
        )
        if args.resume:
            session.marker = path.with_name(path.name + ".at")
            session.recover()
        where = f"{session.facts['device']} ({device.type}, {session.facts['threads']} CPU threads)"
        print(f"{where}, commit {session.facts['commit']}, torch {torch.__version__}")
        if not args.check:
            session.limits = measure_limits(device, PRECISIONS[device.type])
            session.write_limits(session.limits)
        return session

    def write_limits(self, limits: Limits) -> None:
        """The machine's limits as rows of their own."""
        values = {"copy": (limits.bandwidth / 1e9, "GB/s")}
        values |= {f"compute {p}": (rate / 1e12, "TFLOP/s") for p, rate in limits.rates.items()}
        for name, (value, unit) in values.items():
            row = {"case": f"limit/{name}", "provider": "machine", "layout": "", "path": "torch", "metric": "limit"}
            rows.append(self.path, {**row, "status": "ok", "value": round(value, 3), "unit": unit, **self.facts})
            print(f"  limit: {name} {value:.4g} {unit}")

    def recover(self) -> None:
        """A case that an earlier process died in gets a row that says so, and is not tried again."""
        if self.marker is None or not self.marker.exists():
            return
        row = {"case": self.marker.read_text(), "provider": "case", "layout": "", "path": "", "metric": "wall"}
        reason = "the process died or was stopped during this case"
        rows.append(self.path, {**row, "status": "failed", "reason": reason, **self.facts})
        self.marker.unlink()

    def done(self) -> set[str]:
        """The cases that the file has at this commit."""
        if not self.path.exists():
            return set()
        return {row["case"] for row in rows.read(self.path) if row["commit"] == self.facts["commit"]}

    def run(self, case: Case) -> None:
        """One case; an error that stops it becomes a row."""
        found: list[Row] = []
        if self.marker:
            self.marker.parent.mkdir(parents=True, exist_ok=True)
            self.marker.write_text(case.name)
        try:
            made = run_case(case, self.device, self.providers, self.clocks, self.limits, self.seconds, not self.check)
            for row in made:
                found.append(row)
                rows.append(self.path, {**row, **self.facts})
        except Exception as error:
            row = row_of(case, "case", "", "", metric="wall", status="failed", reason=one_line(error))
            found.append(row)
            rows.append(self.path, {**row, **self.facts})
        if self.marker:
            self.marker.unlink()
        self.broken = any(text in row.get("reason", "") for row in found for text in FATAL)
        self.wrong += sum(row["status"] == "wrong" and row["provider"].startswith("ours") for row in found)
        print(table(case, found), flush=True)
        gc.collect()
        if "torch._dynamo" in sys.modules:
            # Otherwise the compiled functions of every case would stay.
            torch._dynamo.reset()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def table(case: Case, found: list[Row]) -> str:
    """A case's rows for the terminal: microseconds, spread, and how many times faster than torch."""
    lines = [case.name]
    for metric in dict.fromkeys(row["metric"] for row in found):
        of_metric = [row for row in found if row["metric"] == metric]
        for row in sorted(of_metric, key=lambda r: r.get("value", float("inf"))):
            who = f"  {metric:6} {row['provider'] + '/' + row['layout']:22}"
            if "value" not in row:
                lines.append(f"{who} {row['status'].upper()} {row.get('reason', '')}".rstrip())
                continue
            share = f"  {100 * row['share']:3.0f}% of {row['bound']} limit" if "share" in row else ""
            ratio = f"  x{row['ratio']:.2f}" if "ratio" in row else ""
            lines.append(f"{who} {row['value']:12.1f} us ±{100 * row['spread']:.0f}%{ratio}{share}  [{row['path']}]")
    return "\n".join(lines)
