"""What a person can do with whole networks: rows 5 to 7 and 19 to 26 of the list, each with its exact numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from cnn.data import Dataset, lay_out, load_data, load_image
from cnn.data.photo import photo_path
from cnn.learn.augment import random_affine, warp
from cnn.learn.settings import Recipe
from cnn.models import MLP, FilterNet, GapCNN, LeNet, parameter_count, probabilities
from cnn.pictures.comparison import draw_models, draw_overfitting, draw_pairs, draw_shift, draw_variants
from cnn.pictures.maps import draw_step
from cnn.see import comparison
from cnn.see.arithmetic import summary
from cnn.see.trace import trace

CPU = torch.device("cpu")


def test_row_5_features_from_low_to_high(lenet: LeNet, digits: Dataset, tmp_path: Path) -> None:
    seen = trace(lenet, digits.test_images[:1])
    assert [step.name for step in seen.steps if step.output.dim() == 4] == [
        "conv1.conv", "conv1.relu", "conv1.max", "conv2.conv", "conv2.relu", "conv2.max"
    ]  # fmt: skip
    for step, count in ((seen["conv1.conv"], 6), (seen["conv2.conv"], 16)):
        text = draw_step(step, tmp_path / f"{step.name}.svg").read_text()
        assert sum(f">Output {i}<" in text for i in range(1, 40)) == count


def test_row_6_the_mlp() -> None:
    rows = {r.name: r.parameters for r in summary(trace(MLP(), torch.zeros(1, 1, 28, 28))) if r.parameters}
    assert rows == {"fc1": 401_920, "fc2": 262_656, "fc3": 5_130}
    assert parameter_count(MLP()) == 669_706
    assert [m.p for m in MLP().modules() if isinstance(m, torch.nn.Dropout)] == [0.2]
    seen = trace(MLP(), torch.zeros(1, 1, 28, 28))
    assert [s.op.kind for s in seen.steps].count("identity") == 2  # dropout twice, asleep


def test_row_7_costs_side_by_side() -> None:
    image = torch.zeros(1, 1, 28, 28)
    lenet, mlp = summary(trace(LeNet(), image)), summary(trace(MLP(), image))
    assert [r.parameters for r in lenet if r.parameters] == [156, 2_416, 48_120, 10_164, 850]
    assert sum(r.parameters for r in lenet) == 61_706
    assert sum(r.multiply_adds for r in lenet) == 416_520
    assert sum(r.multiply_adds for r in mlp) == 668_672
    assert parameter_count(GapCNN()) == 23_946


def test_row_7_accuracy_over_seeds_with_its_range(digits: Dataset, tmp_path: Path) -> None:
    small = digits.limited(400)
    results = [comparison.run(name, small, Recipe(2, seed=s), CPU) for s in (0, 1) for name in ("mlp", "lenet")]
    mlp, lenet = comparison.group(results)
    assert (mlp.seeds, mlp.total, lenet.parameters) == (2, 360, 61_706)
    shares = [r.correct / 360 for r in results if r.model == "mlp"]
    assert mlp.mean == pytest.approx(sum(shares) / 2)
    assert (mlp.lowest, mlp.highest) == (min(shares), max(shares))
    assert mlp.mean > 0.5
    for name, draw in (("models", draw_models), ("shift", draw_shift)):
        args = ("digits",) if draw is draw_models else ()
        assert draw([mlp, lenet], tmp_path / f"{name}.png", *args).exists()
    assert draw_pairs([mlp, lenet], tmp_path / "pairs.png", ["a", "b"], "title").exists()


def test_row_19_flatten_and_fully_connected(lenet: LeNet, digits: Dataset) -> None:
    seen = trace(lenet, digits.test_images[:1])
    sizes = [tuple(seen[name].output.shape[1:]) for name in ("conv2.max", "conv2.flatten", "fc1", "fc2", "fc3")]
    assert sizes == [(16, 5, 5), (400,), (120,), (84,), (10,)]
    assert torch.equal(seen["conv2.flatten"].output, seen["conv2.max"].output.flatten(1))


def test_row_20_scores(lenet: LeNet, digits: Dataset) -> None:
    with torch.no_grad():
        scores = lenet(digits.test_images[:50])
    shares = probabilities(scores)
    torch.testing.assert_close(shares.sum(1), torch.ones(50))
    assert torch.equal(shares.argmax(1), scores.argmax(1))
    assert torch.equal(shares.topk(3).indices, scores.topk(3).indices)


def test_row_21_a_shifted_photo_gives_shifted_maps() -> None:
    photo = load_image(photo_path())
    moved = comparison.shifted(photo, 8, 8)
    maps, moved_maps = (trace(FilterNet(), image)["conv.conv"].output for image in (photo, moved))
    torch.testing.assert_close(moved_maps[..., 8:, 8:], maps[..., :-8, :-8], atol=1e-5, rtol=0)


def test_row_21_accuracy_against_shift(digits: Dataset) -> None:
    """The full numbers need 30 epochs (docs); after 8 the order is clear already."""
    small = replace(digits, test_images=digits.test_images[:200], test_labels=digits.test_labels[:200])
    shares = {n: comparison.run(n, small, Recipe(8), CPU).sideways for n in ("mlp", "lenet", "gap")}
    assert shares["mlp"][4] < 0.4
    assert shares["lenet"][4] < 0.5
    assert shares["gap"][4] > 0.9
    assert all(share[0] > 0.85 for share in shares.values())


def test_row_21_with_room_to_move_a_global_max_pool_is_exactly_invariant(digits: Dataset) -> None:
    """4 px are one cell after two pools. What is lost in 28x28 is lost at the edge, and nowhere else."""
    torch.manual_seed(0)
    model = GapCNN().eval()
    roomy = torch.nn.functional.pad(digits.test_images[:20], (16,) * 4)
    with torch.no_grad():
        still = model(roomy)
        for move in ((0, 4), (0, -4), (4, 0), (-4, 0)):
            torch.testing.assert_close(model(comparison.shifted(roomy, *move)), still, atol=1e-6, rtol=0)
        assert (model(comparison.shifted(roomy, 0, 3)) - still).abs().max() > 1e-3


def test_shift_moves_every_pixel() -> None:
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    moved = comparison.shifted(image, 1, -2)[0, 0]
    assert moved.tolist() == [[0, 0, 0, 0], [2, 3, 0, 0], [6, 7, 0, 0], [10, 11, 0, 0]]


def test_row_22_scrambled_pixels(digits: Dataset) -> None:
    mixed = comparison.scrambled(digits)
    assert not torch.equal(mixed.train_images, digits.train_images)
    for a, b in ((mixed.train_images, digits.train_images), (mixed.test_images, digits.test_images)):
        assert torch.equal(a.flatten(1).sort().values, b.flatten(1).sort().values)
    # One order for all images: equal pixels stay equal across images.
    order = torch.randperm(784, generator=torch.Generator().manual_seed(0))
    assert torch.equal(mixed.test_images.flatten(1), digits.test_images.flatten(1)[:, order])
    plain, permuted = (comparison.run("mlp", digits, Recipe(6), CPU, permuted=p) for p in (False, True))
    # The MLP does not care: a few of 360 images.
    assert abs(plain.correct - permuted.correct) <= 11
    assert permuted.sideways == permuted.vertical == ()


def test_row_23_augmentation(digits: Dataset, tmp_path: Path) -> None:
    image = digits.test_images[:1]
    variants = warp(image.expand(17, -1, -1, -1), random_affine(17, torch.Generator().manual_seed(0)))
    assert len({v.numpy().tobytes() for v in variants}) == 17
    assert ((variants >= 0) & (variants <= 1)).all()
    # Variants of the same digit: close in ink, none emptied.
    ink = variants.sum((1, 2, 3)) / image.sum()
    assert ink.min() > 0.7
    assert ink.max() < 1.4
    assert draw_variants(image[0], variants, tmp_path / "variants.png").exists()


def test_row_24_lenet_learns_digits(lenet: LeNet, digits: Dataset) -> None:
    with torch.no_grad():
        right = (lenet(digits.test_images).argmax(1) == digits.test_labels).sum().item()
    assert right / 360 > 0.85


def test_row_25_an_image_of_ones_own(tmp_path: Path, digits: Dataset) -> None:
    for mode, size in (("L", (31, 17)), ("RGB", (50, 64)), ("RGBA", (28, 28)), ("P", (9, 12)), ("1", (40, 40))):
        Image.new(mode, size).save(tmp_path / "any.png")
        image = load_image(tmp_path / "any.png")
        assert image.shape == (1, 1, size[1], size[0])
        assert image.dtype == torch.float32
        assert ((image >= 0) & (image <= 1)).all()
        assert lay_out(image).image.shape == (1, 1, 28, 28)
    seven = digits.test_images[:1]
    paper = (1 - torch.nn.functional.interpolate(seven, scale_factor=9)) * 255
    Image.fromarray(paper[0, 0].byte().numpy()).save(tmp_path / "paper.png")
    laid_out = lay_out(load_image(tmp_path / "paper.png"))
    assert any("invert" in note for note in laid_out.notes)


def test_row_26_overfitting(digits: Dataset, tmp_path: Path) -> None:
    few = replace(digits, train_images=digits.train_images[:200], train_labels=digits.train_labels[:200])
    curves = {d: comparison.overfit(few, Recipe(30), CPU, d) for d in (0.0, 0.2)}
    last = curves[0.0][-1]
    assert last.train_correct == 200
    assert last.test_loss > 3 * last.loss
    # Dropout makes training harder.
    assert curves[0.2][-1].loss > last.loss
    assert draw_overfitting(curves, tmp_path / "overfitting.png").exists()


@pytest.mark.slow
def test_the_default_data_is_real_and_needs_no_network() -> None:
    data = load_data("digits")
    assert (len(data.train_images), len(data.test_images)) == (1437, 360)
