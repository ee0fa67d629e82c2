"""The parts of READMEs that are generated from the rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.report.data import Device
from bench.report.goals import table
from bench.report.tables import chief, heading
from cnn.errors import UserError

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
GOALS_README = "kernels/cpu/README.md"


def block(devices: Sequence[Device]) -> str:
    """What stands between the markers: for each device its chief figure and table."""
    parts = []
    for device in devices:
        figure = f"bench/figures/{device.folder}-speed-up-inference.png"
        full = f"[every case](bench/figures/{device.folder}.md)"
        parts.append(f"{chief(device)}\n\n![Speed-up over torch]({figure})\n\nAll rows and figures: {full}.")
    return "\n\n".join(parts)


def between(text: str, path: Path) -> tuple[str, str, str]:
    """The text before the block, in it, and after it; UserError when the markers are not there once, in order."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise UserError(f"{path}: expected one line {BEGIN} and after it one line {END}")
    head, rest = text.split(BEGIN)
    middle, foot = rest.split(END)
    return head, middle.strip("\n"), foot


def goals(devices: Sequence[Device]) -> str:
    """What stands between the markers of the CPU path's README: the goals' table of each CPU."""
    return "\n\n".join(f"**{heading(d)}**\n\n{table(d)}" for d in devices if d.about["kind"] == "cpu")


def rewrite(path: Path, text_between: str) -> bool:
    """Replaces what is between the markers; whether that changed the file."""
    text = path.read_text()
    head, _, foot = between(text, path)
    new = f"{head}{BEGIN}\n{text_between}\n{END}{foot}"
    if new != text:
        path.write_text(new)
    return new != text
