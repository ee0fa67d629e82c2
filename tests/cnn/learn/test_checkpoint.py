"""Checkpoints: what goes in comes out, torch loads them safely, and foreign files are refused by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from cnn.errors import UserError
from cnn.learn.checkpoint import FORMAT, Checkpoint, load, save
from cnn.models import EDGES, FilterNet, GapCNN, LeNet, build

CLASSES = list("0123456789")


@pytest.mark.parametrize("name", ["lenet", "mlp", "gap", "filternet"])
def test_every_model_comes_back_with_the_same_bits(tmp_path: Path, name: str) -> None:
    model = build(name).eval()
    save(Checkpoint.of(model, CLASSES, settings={"data": "digits"}), tmp_path / "model.pt")
    again = load(tmp_path / "model.pt").build()
    x = torch.rand(3, 1, 28, 28)
    assert torch.equal(model(x), again(x))
    assert not again.training


def test_the_configuration_comes_back(tmp_path: Path) -> None:
    save(Checkpoint.of(LeNet("avg", "tanh", classes=3), ["a", "b", "c"]), tmp_path / "a.pt")
    save(Checkpoint.of(FilterNet(EDGES[None]), ["edge"]), tmp_path / "b.pt")
    checkpoint = load(tmp_path / "a.pt")
    assert (checkpoint.config["pool"], checkpoint.config["activation"]) == ("avg", "tanh")
    assert checkpoint.classes == ["a", "b", "c"]
    assert load(tmp_path / "b.pt").build().state_dict()["conv.weight"].shape == (1, 1, 4, 4)


def test_the_file_is_plain_data_that_torch_loads_safely(tmp_path: Path) -> None:
    save(Checkpoint.of(GapCNN(), CLASSES), tmp_path / "deep" / "model.pt")
    raw = torch.load(tmp_path / "deep" / "model.pt", weights_only=True)
    assert raw["format"] == FORMAT
    assert set(raw["state_dict"]) == set(GapCNN().state_dict())
    assert os.listdir(tmp_path / "deep") == ["model.pt"]


def test_an_interrupted_save_leaves_the_previous_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt"
    save(Checkpoint.of(GapCNN(), CLASSES), path)
    before = path.read_bytes()

    def full(_: Any, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="disk full"):
        save(Checkpoint.of(GapCNN(), CLASSES), path)
    assert path.read_bytes() == before


class Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)

    def __init__(self, target: Path) -> None:
        self.target = target


def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"format": FORMAT, "model": Hostile(tmp_path / "taken")}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match=r"evil.pt: refused"):
        load(tmp_path / "evil.pt")
    assert not (tmp_path / "taken").exists()


def test_foreign_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("hello")
    torch.save(LeNet().state_dict(), tmp_path / "weights.pt")
    save(Checkpoint.of(LeNet(), CLASSES), tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:5000])
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.save({"format": FORMAT, "model": "lenet"}, tmp_path / "parts.pt")
    torch.save({"format": FORMAT, "model": "lenet", "surprise": 1}, tmp_path / "more.pt")
    for name, message in {
        "text": "refused|not a checkpoint",
        "weights": "not a checkpoint that `cnn train` wrote",
        "cut": "not a checkpoint, or a damaged one",
        "empty": "not a checkpoint, or a damaged one",
        "parts": "incomplete checkpoint",
        "more": "incomplete checkpoint",
    }.items():
        with pytest.raises(UserError, match=f"{name}.pt: ({message})"):
            load(tmp_path / f"{name}.pt")


def test_another_models_checkpoint_is_refused(tmp_path: Path) -> None:
    save(Checkpoint.of(GapCNN(), CLASSES), tmp_path / "gap.pt")
    assert load(tmp_path / "gap.pt", "gap").model == "gap"
    with pytest.raises(UserError, match=r"gap.pt: holds the model gap, not lenet; pass --model gap"):
        load(tmp_path / "gap.pt", "lenet")
    mixed = Checkpoint("lenet", {}, GapCNN().state_dict(), CLASSES)
    with pytest.raises(UserError, match="weights do not fit its model lenet"):
        mixed.build()
    with pytest.raises(UserError, match="'vgg' is unknown"):
        Checkpoint("vgg", {}, {}, CLASSES).build()
