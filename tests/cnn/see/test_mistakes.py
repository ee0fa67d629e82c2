"""The picture of what a model got wrong."""

from __future__ import annotations

from pathlib import Path

import torch

from cnn.pictures.mistakes import draw_mistakes


def test_the_surest_mistake_comes_first(tmp_path: Path) -> None:
    labels = torch.tensor([0, 1, 2, 1])
    scores = torch.tensor([[9.0, 0, 0], [2, 0, 0], [0, 8, 0], [0, 1, 0]])
    path = draw_mistakes(torch.rand(4, 1, 8, 8), labels, scores, ("a", "b", "c"), tmp_path / "mistakes.svg")
    assert path is not None
    text = path.read_text()
    assert "2 of 4 read wrong" in text
    assert text.index(">b (100 %)") < text.index(">a (79 %)")
    assert ">is a c<" in text


def test_no_mistake_no_picture(tmp_path: Path) -> None:
    assert (
        draw_mistakes(torch.rand(1, 1, 8, 8), torch.tensor([0]), torch.tensor([[1.0, 0]]), "ab", tmp_path / "m.png")
        is None
    )
    assert not list(tmp_path.iterdir())
