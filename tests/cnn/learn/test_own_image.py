"""An image of a person's own: every mode that a camera, a scanner or a paint program may save, and bad files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnn.data import Dataset, lay_out, load_image
from cnn.errors import UserError
from cnn.learn.session import Outcome
from cnn.learn.training import predict

RAMP = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)


def saved(tmp_path: Path, image: Image.Image, name: str = "x.png", **options: object) -> torch.Tensor:
    image.save(tmp_path / name, **options)
    return load_image(tmp_path / name)


def test_gray_is_divided_by_255(tmp_path: Path) -> None:
    image = saved(tmp_path, Image.fromarray(RAMP))
    assert image.shape == (1, 1, 4, 6)
    assert image.dtype == torch.float32
    assert torch.equal(image[0, 0], torch.from_numpy(RAMP) / 255)
    ends = saved(tmp_path, Image.fromarray(np.array([[0, 255]], np.uint8)))
    assert ends.flatten().tolist() == [0, 1]


def test_colour_has_three_channels(tmp_path: Path) -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 1] = (255, 0, 51)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    image = load_image(tmp_path / "x.png", colour=True)
    assert image.shape == (1, 3, 2, 3)
    assert image[0, :, 0, 1].tolist() == pytest.approx([1, 0, 0.2])
    assert load_image(tmp_path / "x.png").shape == (1, 1, 2, 3)


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((1, 2, 4), np.uint8)
    pixels[0, 0, 3] = 255
    assert saved(tmp_path, Image.fromarray(pixels)).flatten().tolist() == [1 - 1.0, 1.0]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    palette.putpalette([10, 10, 10, 0, 0, 0])
    assert saved(tmp_path, palette, transparency=1)[0, 0, 0].tolist() == pytest.approx([10 / 255, 1])


def test_palette_and_one_bit_images_are_their_colours(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    palette.putpalette([0, 0, 0, 255, 255, 255, 51, 51, 51])
    assert saved(tmp_path, palette, "x.gif").flatten().tolist() == pytest.approx([0, 1, 0.2])
    bits = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert saved(tmp_path, bits).flatten().tolist() == [0, 1]


def test_sixteen_bits_keep_their_range(tmp_path: Path) -> None:
    wide = Image.fromarray(np.array([[0, 13107, 65535]], np.uint16))
    for name in ("x.png", "x.tif"):
        assert saved(tmp_path, wide, name).flatten().tolist() == pytest.approx([0, 0.2, 1])
    assert load_image(tmp_path / "x.png", colour=True).shape == (1, 3, 1, 3)


def test_exif_turns_the_picture_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held a quarter turn to the side
    pixels = np.zeros((8, 16), np.uint8)
    pixels[:, :8] = 255
    image = saved(tmp_path, Image.fromarray(pixels), "x.jpg", exif=exif, quality=95)
    assert image.shape == (1, 1, 16, 8)
    assert image[0, 0, :8].mean() > 0.9
    assert image[0, 0, 8:].mean() < 0.1


def test_bad_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        load_image(tmp_path / "nothing.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(UserError, match=r"text.png: not an image that Pillow can read"):
        load_image(tmp_path / "text.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:900])
    with pytest.raises(UserError, match=r"cut.png: damaged image"):
        load_image(tmp_path / "cut.png")
    for limit in (3000, 1500):  # Pillow warns above its limit and raises above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(UserError, match=r"whole.png: refused as a decompression bomb"):
            load_image(tmp_path / "whole.png")


def test_mnist_sized_images_stay_as_they_are(digits: Dataset) -> None:
    image = digits.test_images[:1]
    laid_out = lay_out(image)
    assert torch.equal(laid_out.image, image)
    assert laid_out.notes == ()
    inverted = lay_out(1 - image)
    torch.testing.assert_close(inverted.image, image)
    assert inverted.notes == ("inverted: dark ink on a light ground",)


def photo(digit: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A digit (1, 28, 28) in dark ink somewhere on a sheet of paper in uneven light, with a camera's noise."""
    ink = torch.nn.functional.interpolate(digit[None], size=(200, 200), mode="bicubic").clamp(0, 1)[0, 0]
    top, left = torch.randint(0, 160, (2,), generator=generator).tolist()
    paper = (0.9 - 0.4 * torch.linspace(0, 1, 400)).repeat(360, 1)
    paper[top : top + 200, left : left + 200] *= 1 - 0.75 * ink
    return (paper + 0.02 * torch.randn(360, 400, generator=generator)).clamp(0, 1)[None, None]


def test_photos_of_digits_are_read_like_the_digits(digits: Dataset, trained: Outcome) -> None:
    draw = torch.Generator().manual_seed(0)
    labels = digits.test_labels[:100]
    laid_out = [lay_out(photo(digit, draw)) for digit in digits.test_images[:100]]
    assert all(it.notes[0].startswith("inverted") and "cut out" in it.notes[1] for it in laid_out)
    right = [
        (predict(trained.model, images, torch.device("cpu")).argmax(1) == labels).sum().item()
        for images in (digits.test_images[:100], torch.cat([it.image for it in laid_out]))
    ]
    assert right[0] >= 80
    assert right[1] >= right[0] - 5


@pytest.mark.parametrize("dark", [True, False])
def test_a_thin_line_is_found_and_centred(dark: bool) -> None:
    sheet = torch.zeros(1, 1, 900, 700)
    sheet[..., 100:500, 600:604] = 0.8  # a long thin 1 in the corner
    sheet[..., 700:703, 20:23] = 0.8  # a speck
    image = lay_out(1 - sheet if dark else sheet).image[0, 0]
    rows, columns = (image > 0.3).nonzero().unbind(1)
    assert 17 <= rows.max() - rows.min() + 1 <= 20
    assert 2 <= columns.max() - columns.min() + 1 <= 4
    assert abs(rows.float().mean() - 13.5) <= 1
    assert abs(columns.float().mean() - 13.5) <= 1


def test_a_thin_pen_becomes_as_thick_as_mnists() -> None:
    """A ring drawn with pens of 2 to 24 pixels on 400: the same picture, about a tenth of its height thick."""
    rows, columns = torch.meshgrid(torch.arange(480.0), torch.arange(480.0), indexing="ij")
    radius = torch.hypot(rows - 240, columns - 240)
    amounts = []
    for pen in (2, 6, 12, 24):
        sheet = 0.9 - 0.7 * ((radius - 190).abs() <= pen / 2).float()
        amounts.append(lay_out(sheet[None, None]).image.sum().item())
    assert max(amounts) < 1.1 * min(amounts)  # without thickening 1.24


def test_an_empty_sheet_says_so() -> None:
    laid_out = lay_out(torch.full((1, 1, 50, 80), 0.5))
    assert laid_out.image.shape == (1, 1, 28, 28)
    assert any("no ink found" in note for note in laid_out.notes)


def test_whole_keeps_proportions_and_ink() -> None:
    image = torch.ones(1, 1, 56, 28)
    image[..., :28, :] = 0
    laid_out = lay_out(image, "whole")
    assert laid_out.image.shape == (1, 1, 28, 28)
    assert laid_out.image[0, 0, 2, 10] == 0
    assert laid_out.image[0, 0, 25, 10] == 1
    with pytest.raises(UserError, match="layout must be one of digit, whole"):
        lay_out(image, "upside down")
