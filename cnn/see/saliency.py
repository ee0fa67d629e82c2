"""Where a network looks: the gradient of a score with respect to the pixels, and Grad-CAM, by autograd."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnn.errors import UserError


def saliency(model: nn.Module, image: Tensor, target: int | None = None) -> Tensor:
    """|d score / d pixel|, the largest over the channels: (H, W) for an image (1, C, H, W).

    target: the class whose score is asked about; None for the predicted one (Simonyan et al. 2013).
    """
    pixels = image.detach().clone().requires_grad_()
    gradient = _gradient(model, pixels, target, pixels)
    return gradient[0].abs().amax(0)


def grad_cam(model: nn.Module, image: Tensor, target: int | None = None, layer: nn.Module | None = None) -> Tensor:
    """The regions that speak for a class: (H, W) in 0..1, at the image's size (Selvaraju et al. 2017).

    The maps of `layer` (None: the last convolution, with its ReLU and pool when fused) are weighted by the mean
    gradient of the score, summed, cut at 0 and enlarged. All zero where nothing speaks for the class.
    """
    layer = layer or last_convolution(model)
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, args, output: kept.append(output))
    try:
        gradient = _gradient(model, image.detach().clone().requires_grad_(), target, kept)
    finally:
        handle.remove()
    weights = gradient.mean((2, 3), keepdim=True)
    heat = (weights * kept[0].detach()).sum(1, keepdim=True).relu()
    heat = F.interpolate(heat, size=image.shape[-2:], mode="bilinear", align_corners=False)[0, 0]
    return heat / heat.max().clamp_min(torch.finfo(heat.dtype).tiny)


def last_convolution(model: nn.Module) -> nn.Module:
    """The last layer that is a convolution; UserError for a model without one."""
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    if not layers:
        raise UserError(f"{type(model).__name__} has no convolution, which Grad-CAM needs; use saliency")
    return layers[-1]


def _gradient(model: nn.Module, pixels: Tensor, target: int | None, wanted: Any) -> Tensor:
    """d score[target] / d wanted, in evaluation mode; a list is read after the forward pass has filled it."""
    training = model.training
    model.eval()
    try:
        with torch.enable_grad():
            scores = model(pixels)
            chosen = int(scores[0].argmax()) if target is None else target
            if not 0 <= chosen < scores.shape[1]:
                raise UserError(f"class {chosen} does not exist; the model has 0..{scores.shape[1] - 1}")
            of = wanted if isinstance(wanted, Tensor) else wanted[0]
            return torch.autograd.grad(scores[0, chosen], of)[0]
    finally:
        model.train(training)
