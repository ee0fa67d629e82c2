"""Saliency and Grad-CAM through this package's own backward passes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cnn.data import Dataset
from cnn.errors import UserError
from cnn.models import MLP, LeNet
from cnn.see.saliency import grad_cam, last_convolution, saliency


def test_saliency_is_the_slope_of_the_score(lenet: LeNet, digits: Dataset) -> None:
    """Against finite differences, in float64."""
    model = LeNet().double()
    model.load_state_dict({k: v.double() for k, v in lenet.state_dict().items()})
    model.eval()
    image = digits.test_images[:1].double()
    heat = saliency(model, image, target=7)
    step = 1e-6
    for y, x in ((10, 12), (14, 14), (20, 9)):
        moved = image.clone()
        moved[0, 0, y, x] += step
        with torch.no_grad():
            slope = (model(moved)[0, 7] - model(image)[0, 7]) / step
        assert heat[y, x].item() == pytest.approx(abs(slope.item()), rel=1e-3, abs=1e-5)


def test_grad_cam_by_its_definition(digits: Dataset) -> None:
    """A network whose Grad-CAM is known: one map, mean-pooled, a weight of 2 to class 1 and -2 to class 0."""
    conv = nn.Conv2d(1, 1, 1, bias=False)
    out = nn.Linear(1, 2, bias=False)
    nn.init.ones_(conv.weight)
    out.weight.data = torch.tensor([[-2.0], [2.0]])
    net = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), out)
    image = digits.test_images[:1]
    torch.testing.assert_close(grad_cam(net, image, target=1), image[0, 0] / image.max())
    assert not grad_cam(net, image, target=0).any()


def test_defaults_and_mistakes(lenet: LeNet, digits: Dataset) -> None:
    image = digits.test_images[:1]
    with torch.no_grad():
        best = int(lenet(image).argmax())
    assert torch.equal(saliency(lenet, image), saliency(lenet, image, best))
    assert last_convolution(lenet) is lenet.conv2
    lenet.zero_grad(set_to_none=True)
    heat = grad_cam(lenet, image)
    assert heat.shape == (28, 28)
    assert heat.max() == 1
    assert all(p.grad is None for p in lenet.parameters())
    with pytest.raises(UserError, match=r"class 10 does not exist; the model has 0\.\.9"):
        saliency(lenet, image, 10)
    with pytest.raises(UserError, match="no convolution"):
        grad_cam(MLP(), image)


def test_captum_agrees(lenet: LeNet, digits: Dataset) -> None:
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    for index in range(3):
        image = digits.test_images[index : index + 1]
        with torch.no_grad():
            best = int(lenet(image).argmax())
        wanted = attr.Saliency(lenet).attribute(image.clone().requires_grad_(), target=best)
        torch.testing.assert_close(saliency(lenet, image), wanted[0].abs().amax(0))
        cam = attr.LayerGradCam(lenet, lenet.conv2).attribute(image.clone(), target=best, relu_attributions=True)
        cam = nn.functional.interpolate(cam.detach(), size=(28, 28), mode="bilinear", align_corners=False)[0, 0]
        torch.testing.assert_close(grad_cam(lenet, image), cam / cam.max(), atol=1e-5, rtol=1e-4)
