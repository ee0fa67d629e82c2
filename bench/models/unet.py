"""U-Net (2015): down by max pools, up by transposed convolutions, with the maps of the way down beside those of up."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.models.width import channels


def _double(c: int, k: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c, k, 3, padding=1), nn.ReLU(), nn.Conv2d(k, k, 3, padding=1), nn.ReLU())


class UNet(nn.Module):
    """Padded convolutions, so that the result has the size of the image; H and W multiples of 2 ** levels."""

    def __init__(self, width: float = 1.0, classes: int = 2, levels: int = 4) -> None:
        super().__init__()
        widths = [channels(64 * 2**i, width) for i in range(levels + 1)]
        self.down = nn.ModuleList(_double(c, k) for c, k in zip([3, *widths], widths, strict=False))
        self.pool = nn.MaxPool2d(2)
        wide = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(c, k, 2, stride=2) for c, k in wide)
        self.merge = nn.ModuleList(_double(c, k) for c, k in wide)
        self.last = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, classes, H, W)."""
        kept: list[Tensor] = []
        for i, down in enumerate(self.down):
            x = down(self.pool(x) if i else x)
            kept.append(x)
        kept.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([kept.pop(), up(x)], 1))
        scores: Tensor = self.last(x)
        return scores
