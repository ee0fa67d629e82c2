"""The rows of a file in one line a case: the best time of this package against torch's best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import rows


def best(found: list[rows.Row], **wanted: Any) -> rows.Row | None:
    """The fastest row with these fields."""
    fitting = [r for r in found if "value" in r and all(r.get(name) == value for name, value in wanted.items())]
    return min(fitting, key=lambda r: float(r["value"]), default=None)


def brief(path: Path) -> str:
    """case: ours us, torch us, the ratio; the device's time where there is one, else wall time."""
    found = rows.read(path)
    lines = []
    for case in dict.fromkeys(row["case"] for row in found if row.get("metric") in ("wall", "device", "host")):
        of_case = [row for row in found if row["case"] == case and "metric" in row]
        metric = "device" if any(row["metric"] == "device" for row in of_case) else "wall"
        ours, torchs = (best(of_case, provider=name, metric=metric) for name in ("ours", "eager"))
        bad = [f"{r['provider']}/{r['layout']} {r['status']}" for r in of_case if r["status"] != "ok"]
        said = "  ".join(bad)
        if ours and torchs:
            share = f" {100 * ours['share']:.0f}%" if "share" in ours else ""
            times = f"{ours['value']:.1f} ({ours['layout']}{share}) torch {torchs['value']:.1f} ({torchs['layout']})"
            said = f"ours {times} x{torchs['value'] / ours['value']:.2f}  {said}"
        lines.append(f"{case} [{metric}] {said}".rstrip())
    return "\n".join(lines)
