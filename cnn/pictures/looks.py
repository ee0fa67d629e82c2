"""Where a model looks: the image, its saliency and its Grad-CAM."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from cnn.pictures.filters import show_image
from cnn.pictures.style import canvas, save


def draw_looks(image: Tensor, slopes: Tensor, regions: Tensor | None, answer: str, path: str | Path) -> Path:
    """image (C, H, W) in 0..1; slopes, regions (H, W) from cnn.see.saliency; answer: the class that they speak of."""
    height, width = image.shape[1:]
    figure = canvas(3.3 * (2 if regions is None else 3), 3.3 * height / width + 0.5)
    places = figure.subplots(1, 2 if regions is None else 3)
    show_image(places[0], image if image.shape[0] in (1, 3) else image[:1])
    places[0].set_title("the image", fontsize=10)
    titles = ("saliency: pixels that move the score", "Grad-CAM: regions that speak for it")
    for place, heat, title in zip(places[1:], (slopes, regions), titles, strict=False):
        assert heat is not None
        place.imshow(image.mean(0).numpy(), cmap="gray", vmin=0, vmax=1.6)
        place.imshow(heat.numpy(), cmap="inferno", alpha=0.75, vmin=0, vmax=float(heat.max()) or 1.0)
        place.set_xticks([])
        place.set_yticks([])
        place.set_title(title, fontsize=10)
    figure.suptitle(f"why {answer}?", fontsize=11)
    return save(figure, path)
