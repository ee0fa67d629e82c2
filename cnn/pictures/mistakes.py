"""The images that a model got wrong, the surest mistakes first."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path

from torch import Tensor, softmax

from cnn.pictures.style import canvas, save, show_map

COLUMNS = 8


def draw_mistakes(
    images: Tensor, labels: Tensor, scores: Tensor, classes: Sequence[str], path: str | Path, most: int = 24
) -> Path | None:
    """The wrongly read of images (N, 1, H, W), each with its label and what was read; None where all are right.

    scores (N, classes); ordered by the probability that the model gave to its wrong answer.
    """
    shares, read = softmax(scores.float(), 1).max(1)
    wrong = (read != labels).nonzero().flatten()
    if not len(wrong):
        return None
    wrong = wrong[shares[wrong].argsort(descending=True)]
    shown = wrong[:most].tolist()
    wide = min(COLUMNS, max(4, len(shown)))
    tall = ceil(len(shown) / wide)
    figure = canvas(wide * 1.35, tall * 1.75 + 0.4)
    places = figure.subplots(tall, wide, squeeze=False).ravel()
    for place in places:
        place.set_axis_off()
    for place, i in zip(places, shown, strict=False):
        show_map(place, images[i, 0], 1.0, signed=False)
        name, truth = classes[int(read[i])], classes[int(labels[i])]
        place.set_title(f"{name} ({100 * float(shares[i]):.0f} %)\nis a {truth}", fontsize=9)
    rest = f", the surest {len(shown)}" if len(shown) < len(wrong) else ""
    figure.suptitle(f"{len(wrong)} of {len(images):,} read wrong{rest}", fontsize=10)
    return save(figure, path)
