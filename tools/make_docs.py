"""Write docs/api from the docstrings and docs/is-it-faster-for-me.md from the measured rows.

`python tools/make_docs.py`, or `make docs`. --check writes nothing: exit code 1 if docs/api is not what the docstrings
say.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import kernels  # noqa: E402
from bench.report.data import Device, Timed, amount, devices  # noqa: E402
from cnn.errors import UserError  # noqa: E402
from kernels.tuned.router import MARGIN  # noqa: E402
from kernels.tuned.table import Table, read  # noqa: E402

API = ROOT / "docs" / "api"
FASTER = ROOT / "docs" / "is-it-faster-for-me.md"
RESULTS = ROOT / "bench" / "results"
TUNED = ROOT / "kernels" / "tuned"
PAGES: dict[str, tuple[str, ...]] = {
    "conv2d": ("conv2d", "Conv2d"),
    "conv2d_relu": ("conv2d_relu", "ConvReLU2d"),
    "conv2d_relu_pool2d": ("conv2d_relu_pool2d", "ConvReLUPool2d"),
    "max_pool2d": ("max_pool2d", "MaxPool2d"),
    "avg_pool2d": ("avg_pool2d", "AvgPool2d"),
    "conv_transpose2d": ("conv_transpose2d", "ConvTranspose2d"),
    "conv1d": ("conv1d", "Conv1d"),
    "max_pool1d": ("max_pool1d", "MaxPool1d"),
    "avg_pool1d": ("avg_pool1d", "AvgPool1d"),
    "adaptive_avg_pool2d": ("adaptive_avg_pool2d", "AdaptiveAvgPool2d"),
    "adaptive_max_pool2d": ("adaptive_max_pool2d", "AdaptiveMaxPool2d"),
    "convert": ("convert", "revert", "report"),
    "backend": ("backend", "set_float32_products"),
    "explain": ("explain",),
}
INTRO = """# Is it faster for me?

Written by `python tools/make_docs.py` from the rows in bench/results and the tables in kernels/tuned; nothing here is
an estimate. A row counts as faster or slower only where the whole interval of its rounds lies more than 3 % off. A
CPU's times say nothing about a card. For your own model, `kernels.explain(model, example, measure=True)` times every
call where it will run.
"""
COLUMNS = "| operation | work | precision | cases | faster | equal | slower | median | from | to |"


def signature(name: str, member: Any) -> str:
    """The call as one would write it, a parameter a line where it is long."""
    text = f"{name}{inspect.signature(member)}"
    if len(text) <= 100:
        return text
    parts = [str(p) for p in inspect.signature(member).parameters.values()]
    kinds = [p.kind for p in inspect.signature(member).parameters.values()]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        parts.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    returned = str(inspect.signature(member)).rpartition(") -> ")[2]
    return f"{name}(\n    " + ",\n    ".join(parts) + f",\n) -> {returned}"


def _unquoted(text: str) -> str:
    """Annotations as they stand in the source, not as the strings that Python keeps of them."""
    return re.sub(r"(: |-> )'([^']+)'", r"\1\2", text)


def entry(name: str) -> str:
    """One public name: its signature and docstring."""
    member = getattr(kernels, name)
    doc = inspect.cleandoc(member.__doc__ or "")
    if not doc:
        raise SystemExit(f"kernels.{name} has no docstring")
    if inspect.isclass(member):
        base = member.__mro__[1]
        home = "kernels" if base.__module__.startswith("kernels.") else "torch.nn"
        return f"## {name}\n\n```python\nclass {name}({home}.{base.__name__})\n```\n\n{doc}\n"
    return f"## {name}\n\n```python\n{_unquoted(signature(name, member))}\n```\n\n{doc}\n"


def api() -> dict[Path, str]:
    """The pages by path."""
    listed = {name for names in PAGES.values() for name in names}
    if listed != set(kernels.__all__):
        raise SystemExit(f"make_docs: PAGES and kernels.__all__ differ: {sorted(listed ^ set(kernels.__all__))}")
    pages = {API / f"{page}.md": f"# {page}\n\n" + "\n".join(map(entry, names)) for page, names in PAGES.items()}
    lines = [f"- [{page}]({page}.md): {', '.join(f'`{name}`' for name in names)}" for page, names in PAGES.items()]
    written = "Written by `python tools/make_docs.py` from the docstrings."
    pages[API / "README.md"] = "# The public names\n\n" + written + "\n\n" + "\n".join(lines) + "\n"
    return pages


def kind_of(case: Timed) -> tuple[str, ...]:
    """What cases are gathered by: operation, work, precision."""
    row = case.row
    return str(row.get("op", "?")), str(row.get("work", "?")), str(row.get("precision", "?"))


def section(device: Device) -> str:
    """One device: a line for every operation, work and precision, then the ten largest gains and losses."""
    cases = [case for case in device.timed() if case.ratio() is not None]
    groups: dict[tuple[str, ...], list[Timed]] = {}
    for case in cases:
        groups.setdefault(kind_of(case), []).append(case)
    lines = [f"## {device.about['device']}", ""]
    lines += ["Times faster than torch at its best (above 1 is a gain), by `" + device.metric + "` time.", ""]
    lines += [COLUMNS, "|---" * 10 + "|"]
    for key, group in sorted(groups.items()):
        ratios = sorted(case.ratio() or 0.0 for case in group)
        counts = [sum(case.standing == s for case in group) for s in ("faster", "equal", "slower")]
        spread = (statistics.median(ratios), ratios[0], ratios[-1])
        lines.append(
            "| " + " | ".join([*key, str(len(group)), *map(str, counts), *(f"{r:.2f}" for r in spread)]) + " |"
        )
    ordered = sorted(cases, key=lambda case: case.ratio() or 0.0)
    for title, listed in (("Largest losses", ordered[:10]), ("Largest gains", ordered[::-1][:10])):
        lines += ["", f"### {title}", "", "| case | this package | torch | times |", "|---|---|---|---|"]
        for case in listed:
            ours, torchs = (amount(float(case.by_provider[name]["value"])) for name in ("ours", "eager"))
            lines.append(f"| {case.case} | {ours} | {torchs} | {case.ratio():.2f} |")
    return "\n".join(lines) + "\n"


def tuned_section(table: Table) -> str:
    """One card's tuned table: a line for each operation and precision, and how many buckets the router gives torch."""
    groups: dict[tuple[str, str], list[float]] = {}
    for bucket, entry in table.entries.items():
        for times in entry.times.values():
            for operation, pair in times.items():
                groups.setdefault((operation, bucket.precision), []).append(pair.torch / pair.ours)
    lines = [f"## {table.card}, tuned", "", "Times faster than torch, per measured bucket and layout.", ""]
    lines += ["| operation | precision | measured | run by torch | median | from | to |", "|---" * 7 + "|"]
    for (operation, precision), ratios in sorted(groups.items()):
        routed = sum(ratio * MARGIN < 1 for ratio in ratios)
        spread = " | ".join(f"{r:.2f}" for r in (statistics.median(ratios), min(ratios), max(ratios)))
        lines.append(f"| {operation} | {precision} | {len(ratios)} | {routed} | {spread} |")
    return "\n".join(lines) + "\n"


def faster(results: Path, tuned: Path = TUNED) -> str:
    """The page of all devices that have rows, and of all cards that have a tuned table."""
    try:
        found: list[Device] = devices(results)
    except UserError:
        return INTRO + "\nNo rows have been measured yet; `python -m bench run` measures them on this machine.\n"
    tables = [read(path, json.loads(path.read_text())["card"]) for path in sorted(tuned.glob("*.json"))]
    none = [] if tables else ["No card has been tuned yet; `python -m bench tune` writes its table.\n"]
    return INTRO + "\n" + "\n".join([*map(section, found), *map(tuned_section, tables), *none])


def main(arguments: list[str] | None = None) -> int:
    """Write or check; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    pages = api()
    old = {path: path.read_text() for path in API.glob("*.md")}
    if options.check:
        different = [path.name for path in {*pages, *old} if pages.get(path) != old.get(path)]
        print("\n".join(f"docs/api/{name} is out of date: run make docs" for name in sorted(different)) or "up to date")
        return 1 if different else 0
    API.mkdir(parents=True, exist_ok=True)
    for path in set(old) - set(pages):
        path.unlink()
    for path, text in {**pages, FASTER: faster(RESULTS)}.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
