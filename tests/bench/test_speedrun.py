"""Seconds to 99 %: the recipe learns, both contenders take the same steps, and the row says what was done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench.__main__ import main
from bench.speedrun import PROVIDERS, Recipe, first_weights, held_out, train, windows
from cnn.data import load_data


def test_both_contenders_take_the_same_steps() -> None:
    data = load_data("digits")
    images, labels = data.train_images[:512], data.train_labels[:512]
    recipe = Recipe(epochs=1, batch=64)
    found = []
    for network in PROVIDERS.values():
        torch.manual_seed(1)
        p = first_weights(torch.device("cpu"))
        train(network, recipe, windows(images, recipe.shift), labels, p)
        found.append(p)
    for ours, eager in zip(*found, strict=True):
        torch.testing.assert_close(ours, eager, rtol=1e-3, atol=1e-4)


def test_every_shift_of_an_image() -> None:
    image = torch.arange(12.0).view(1, 1, 3, 4)
    views = windows(image, 1)
    assert views.shape == (1, 3, 3, 3, 4)
    assert torch.equal(views[0, 1, 1], image[0, 0])
    assert torch.equal(views[0, 0, 1], torch.cat([torch.zeros(1, 4), image[0, 0, :2]]))


def test_the_rate_climbs_and_falls() -> None:
    recipe = Recipe(lr=1.0, warm=0.25)
    assert [recipe.rate(step, 100) for step in (0, 25, 100)] == [0.0, 1.0, 0.0]


def test_the_command_writes_a_row_a_contender(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.jsonl"
    arguments = ["speedrun", "--data", "digits", "--device", "cpu", "--threads", "1", "--seeds", "1"]
    assert main([*arguments, "--epochs", "20", "--out", str(out), "--commit", "none"]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["provider"] for row in rows] == ["ours", "eager"]
    assert all(row["value"] > 0 and row["seeds"] == 1 and row["correct"][0] > 300 for row in rows)
    assert "median" in capsys.readouterr().out


def test_a_recipe_is_chosen_without_the_test_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = load_data("digits")
    split = held_out(data, 100)
    assert len(split.train_labels) == len(data.train_labels) - 100
    assert torch.equal(torch.cat([split.train_images, split.test_images]), data.train_images)
    assert torch.equal(torch.cat([split.train_labels, split.test_labels]), data.train_labels)
    out = tmp_path / "rows.jsonl"
    arguments = ["speedrun", "--data", "digits", "--device", "cpu", "--threads", "1", "--seeds", "1", "--epochs", "1"]
    assert main([*arguments, "--held-out", "100", "--out", str(out)]) == 0
    assert "of 100\n" in capsys.readouterr().out and not out.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        ["--held-out", "100000"],
        ["--held-out", "-1"],
        ["--seeds", "0"],
        ["--providers", "theirs"],
        ["--data", "/no/such/place"],
    ],
)
def test_mistakes_are_one_line(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["speedrun", "--data", "digits", "--device", "cpu", *wrong]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("bench: ")
