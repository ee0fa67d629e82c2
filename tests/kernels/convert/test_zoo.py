"""Networks that nobody here wrote: those in torch's own tests, torchvision's and timm's where they are installed."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from torch import nn
from torch.testing._internal import common_quantization as zoo

import kernels

SIZES = ((1, 3, 9, 9), (1, 2, 9, 9), (1, 1, 9, 9), (1, 3, 224, 224))


def candidates() -> dict[type[nn.Module], tuple[int, ...]]:
    """Networks with convolutions that are made without arguments, and the first image size that they take."""
    found: dict[type[nn.Module], tuple[int, ...]] = {}
    for cls in list(vars(zoo).values()):
        if not (isinstance(cls, type) and issubclass(cls, nn.Module) and cls.__module__ == zoo.__name__):
            continue
        for size in SIZES:
            try:
                model = cls()
                model(torch.randn(size))
            except Exception:
                continue
            if any(isinstance(m, (nn.Conv2d, nn.MaxPool2d)) for m in model.modules()):
                found[cls] = size
            break
    return found


CANDIDATES = candidates()


def test_there_are_some() -> None:
    assert len(CANDIDATES) >= 10


@pytest.mark.parametrize("cls", CANDIDATES, ids=lambda cls: cls.__name__)
def test_torchs_own_test_networks(cls: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = cls(), torch.randn(CANDIDATES[cls])
    for training in (False, True):
        ours = kernels.convert(model.train(training))
        results = []
        for network in (ours, model):
            torch.manual_seed(1)
            results.append(network(x))
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
        assert list(ours.state_dict()) == list(model.state_dict())


TORCHVISION = ["squeezenet1_1", "resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5"]
TIMM = ["convnext_atto", "efficientnet_b0", "ghostnet_100", "mixnet_s", "resnext26ts", "vovnet39a"]


def _network(library: str, name: str) -> nn.Module:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    if library == "timm":
        import timm  # type: ignore[import-not-found,unused-ignore]

        return timm.create_model(name)  # type: ignore[no-any-return,unused-ignore]
    from torchvision import models  # type: ignore[import-not-found,unused-ignore]

    return models.get_model(name, weights=None)  # type: ignore[no-any-return,unused-ignore]


@pytest.mark.parametrize(
    ("library", "name"), [*(("torchvision", n) for n in TORCHVISION), *(("timm", n) for n in TIMM)]
)
def test_networks_of_libraries(library: str, name: str) -> None:
    torch.manual_seed(0)
    model, x = _network(library, name).eval(), torch.randn(1, 3, 64, 64)
    results = []
    for network in (kernels.convert(model), model):
        image = x.clone().requires_grad_()
        y = network(image)
        results.append((y, *torch.autograd.grad(y.square().sum(), image)))
    for ours, torchs in zip(*results, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-5 * float(torchs.detach().abs().max()))
