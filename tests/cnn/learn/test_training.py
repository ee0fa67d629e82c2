"""Training: it learns, it is repeatable, it resumes with the same bits, and it stops on nonsense."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from cnn.data import Dataset
from cnn.errors import UserError
from cnn.learn.augment import random_affine, warp
from cnn.learn.checkpoint import load
from cnn.learn.distributed import World
from cnn.learn.session import Outcome, learn
from cnn.learn.settings import Recipe, Settings
from cnn.learn.training import Trainer, evaluate, predict
from cnn.models import MLP, LeNet, build
from cnn.pictures.confusion import draw_confusion
from cnn.see.confusion import confusion_matrix, most_confused

CPU = torch.device("cpu")


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_eight_epochs_learn_the_digits(trained: Outcome) -> None:
    assert trained.last.test_total == 360
    assert trained.last.accuracy > 0.94
    assert trained.last.loss < 0.5
    assert trained.last.images_per_second > 0


def test_the_folder_holds_model_log_and_curve(trained: Outcome) -> None:
    lines = [json.loads(line) for line in (trained.folder / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 9))
    assert lines[-1]["test_correct"] == trained.last.test_correct
    assert lines == load(trained.folder / "model.pt").history
    assert same(load(trained.folder / "model.pt").build(), trained.model)
    width, height = Image.open(trained.folder / "curve.png").size
    assert width > height > 400


def test_one_step_is_adamw_on_the_mean_loss(few: Dataset) -> None:
    data = few.limited(20)
    torch.manual_seed(3)
    model, reference = LeNet(), LeNet()
    reference.load_state_dict(model.state_dict())
    recipe = Recipe(epochs=1, batch_size=20, lr=0.01, weight_decay=0.1)
    list(Trainer(model, data, recipe, CPU).run())
    # One step of one cycle: its only learning rate is the last one, its first momentum the first.
    optimizer = torch.optim.AdamW(reference.parameters(), lr=0.01, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=1)
    F.cross_entropy(reference(data.train_images), data.train_labels).backward()
    optimizer.step()
    assert schedule.last_epoch == 0
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["lenet", "mlp"])
def test_the_seed_decides_everything(few: Dataset, tmp_path: Path, name: str) -> None:
    settings = Settings(model=name, epochs=2, augment=True, seed=7)
    a, b = (learn(few, settings, tmp_path / part, CPU, shown=False) for part in "ab")
    assert same(a.model, b.model)
    other = learn(few, replace(settings, seed=8), tmp_path / "c", CPU, shown=False)
    assert not same(a.model, other.model)


@pytest.mark.parametrize("name", ["lenet", "mlp"])
def test_a_resumed_run_ends_with_the_same_bits(few: Dataset, tmp_path: Path, name: str) -> None:
    """Stopped after epoch 2 of 4; dropout (MLP), order, variants and learning rate go on as if nothing happened."""
    settings = Settings(model=name, epochs=4, augment=True)
    whole = learn(few, settings, tmp_path / "whole", CPU, shown=False)

    class PowerCutError(Exception):
        pass

    torch.manual_seed(settings.seed)
    trainer = Trainer(build(name), few, settings, CPU)
    from cnn.learn.record import Record

    record = Record(tmp_path / "cut", "cut", list(few.classes), settings.as_dict(), [])
    with pytest.raises(PowerCutError):
        for result in trainer.run():
            record.add(trainer, result.as_dict())
            if result.epoch == 2:
                raise PowerCutError
    torch.manual_seed(12345)  # a new process has another random state
    checkpoint = load(tmp_path / "cut" / "model.pt")
    resumed = learn(few, settings, tmp_path / "cut", CPU, start=checkpoint, shown=False)
    assert same(whole.model, resumed.model)
    logs = [
        [json.loads(line) for line in (tmp_path / part / "log.jsonl").read_text().splitlines()]
        for part in ("whole", "cut")
    ]
    assert [entry["loss"] for entry in logs[0]] == [entry["loss"] for entry in logs[1]]
    assert [entry["lr"] for entry in logs[0]] == [entry["lr"] for entry in logs[1]]
    with pytest.raises(UserError, match="nothing left to resume: all 4 epochs are done"):
        learn(few, settings, tmp_path / "cut", CPU, start=load(tmp_path / "cut" / "model.pt"), shown=False)


def test_a_nan_loss_stops_and_saves_nothing(few: Dataset, tmp_path: Path) -> None:
    images = few.train_images.clone()
    images[17, 0, 3, 3] = math.nan
    settings = Settings(epochs=3)
    with pytest.raises(
        UserError, match=r"the loss became nan in epoch 1, which is not saved; try a lower --lr than 0.002"
    ):
        learn(replace(few, train_images=images), settings, tmp_path, CPU, shown=False)
    assert not (tmp_path / "model.pt").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "--epochs must be at least 1, not 0"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
        ({"seed": -1}, "--seed must be at least 0"),
        ({"lr": 0.0}, "--lr must be positive"),
        ({"lr": math.nan}, "--lr must be positive and finite, not nan"),
        ({"weight_decay": -1.0}, "--weight-decay must be finite and not negative"),
    ],
)
def test_impossible_settings_are_named(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Recipe(**wrong)  # type: ignore[arg-type]


def test_evaluate_and_predict_agree_and_leave_the_mode(few: Dataset, trained: Outcome) -> None:
    model = trained.model.train()
    judged = evaluate(model, few.test_images, few.test_labels, CPU)
    assert model.training
    model.eval()
    with torch.no_grad():
        scores = model(few.test_images)
    torch.testing.assert_close(judged.scores, scores, rtol=1e-5, atol=1e-5)
    assert judged.correct == (scores.argmax(1) == few.test_labels).sum()
    assert judged.loss == pytest.approx(F.cross_entropy(scores, few.test_labels).item(), rel=1e-5)
    one_by_one = predict(model, few.test_images, CPU, batch_size=1)
    torch.testing.assert_close(one_by_one, scores, rtol=1e-4, atol=1e-4)


def test_dropout_is_off_when_judged(few: Dataset) -> None:
    model = MLP(dropout=0.9)
    assert torch.equal(predict(model, few.test_images, CPU), predict(model, few.test_images, CPU))


def test_variants_stay_near_the_original(few: Dataset) -> None:
    images = few.train_images[:50]
    identity = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).repeat(50, 1, 1)
    torch.testing.assert_close(warp(images, identity), images, rtol=1e-4, atol=1e-4)
    maps = random_affine(2000, torch.Generator().manual_seed(0))
    assert maps.shape == (2000, 2, 3)
    shift = maps[:, :, 2].abs().amax(0)  # along x and y; the side is 2 long
    assert (shift <= 0.16).all()
    assert (shift > 0.155).all()
    zoom = torch.linalg.det(maps[:, :, :2]) ** -0.5
    assert 0.9 <= zoom.min() < 0.91
    assert 1.09 < zoom.max() <= 1.1001
    turn = torch.atan2(maps[:, 1, 0], maps[:, 0, 0]).rad2deg()
    assert 9.9 < turn.max() <= 10.001
    assert -10.001 <= turn.min() < -9.9
    assert not torch.equal(warp(images, maps[:50]), images)


def test_a_shift_is_a_shift() -> None:
    image = torch.rand(1, 1, 28, 28)
    maps = torch.tensor([[[1.0, 0, 2 * 3 / 28], [0, 1, 0]]])
    torch.testing.assert_close(warp(image, maps)[..., :25], image[..., 3:], rtol=1e-3, atol=1e-4)


def test_confusion_counts_and_ranks_mistakes(tmp_path: Path) -> None:
    labels = torch.tensor([0, 0, 1, 1, 1, 2])
    matrix = confusion_matrix(labels, torch.tensor([0, 2, 1, 0, 0, 2]), 3)
    assert matrix.tolist() == [[1, 0, 1], [2, 1, 0], [0, 0, 1]]
    assert most_confused(matrix) == [(1, 0, 2), (0, 2, 1)]
    draw_confusion(matrix, ["a", "b", "c"], tmp_path / "c.png", "title")
    assert Image.open(tmp_path / "c.png").size[0] > 300


def test_a_batch_is_divided_without_loss() -> None:
    batch = torch.arange(7)
    parts = [World(rank, 3).share(batch) for rank in range(3)]
    assert torch.equal(torch.cat(parts), batch)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [World(rank, 3).leads for rank in range(3)] == [True, False, False]
