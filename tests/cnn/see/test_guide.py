"""The guide: made by its script, with its pictures, and true to what can be counted at once."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from cnn.__main__ import parser
from cnn.models import LeNet
from cnn.see.arithmetic import Bird, connections, summary
from cnn.see.trace import trace

DOCS = Path(__file__).resolve().parents[3] / "docs"
GUIDE = DOCS / "how-a-cnn-reads-an-image.md"


def test_every_picture_is_there_and_all_are_small() -> None:
    named = set(re.findall(r"\]\((pictures/[^)]+)\)", GUIDE.read_text()))
    present = {f"pictures/{p.name}" for p in (DOCS / "pictures").iterdir()}
    assert named == present
    assert len(named) >= 15
    assert sum(p.stat().st_size for p in (DOCS / "pictures").iterdir()) < 2_000_000


def test_it_is_the_template_with_every_value_filled_in() -> None:
    template = (DOCS / "how-a-cnn-reads-an-image.template.md").read_text()
    pattern = re.escape(template)
    for name in sorted(set(re.findall(r"\$(\w+)", template)), key=len, reverse=True):
        pattern = pattern.replace(re.escape("$" + name), "(?s:.+?)")
    assert re.fullmatch(pattern, GUIDE.read_text())


def test_its_commands_are_commands() -> None:
    text = GUIDE.read_text()
    found = re.findall(r"python -m cnn ([^`\n;]+)", text)
    assert len(found) >= 10
    for command in found:
        parser().parse_args(command.split())


def test_its_counts_are_the_packages() -> None:
    text = GUIDE.read_text()
    seen = trace(LeNet(), torch.zeros(1, 1, 28, 28))
    for row in summary(seen):
        assert (
            f"| {row.name} | {' x '.join(map(str, row.shape))} | {row.parameters:,} | {row.multiply_adds:,} |" in text
        )
    counts, bird = connections(seen["conv1.conv"], (1, 28, 28)), Bird()
    for number in (counts.dense, counts.local, counts.shared, bird.inputs, bird.weights, bird.conv_parameters):
        assert f"{number:,}" in text
