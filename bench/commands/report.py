"""Tables and figures from the committed rows."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "report"
HELP = "Markdown tables and figures of every device that has rows; --readme also rewrites the README's part"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--results", type=Path, default=None, help="folder of rows; default: bench/results")
    parser.add_argument("--out", type=Path, default=None, help="folder of tables and figures; default: bench/figures")
    readme = "rewrite the part between the markers in FILE, by default the repository's README.md and kernels/cpu's"
    parser.add_argument("--readme", nargs="?", type=Path, const=Path(), default=None, metavar="FILE", help=readme)


def run(args: argparse.Namespace) -> int:
    """Writes the files and prints their names."""
    from bench.facts import RESULTS, ROOT
    from bench.report.data import devices
    from bench.report.figures import draw
    from bench.report.readme import GOALS_README, block, goals, rewrite
    from bench.report.tables import full

    found = devices(args.results or RESULTS)
    folder = args.out or ROOT / "bench" / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for device in found:
        table = folder / f"{device.folder}.md"
        table.write_text(full(device))
        for path in [table, *draw(device, folder)]:
            print(path)
    if args.readme is not None:
        parts = [(args.readme, block(found))]
        if args.readme == Path():
            parts = [(ROOT / "README.md", block(found)), (ROOT / GOALS_README, goals(found))]
        for path, text in parts:
            print(f"{path}: {'rewritten' if rewrite(path, text) else 'as it was'}")
    return 0
