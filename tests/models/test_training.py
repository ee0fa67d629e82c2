"""A converted network gives the logits and gradients of the one it was made from, and trains as that one does."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kernels
from tests.compare import assert_as_good
from tests.kernels.paths import CPU_PATH, TRITON_PATH, Path, why_no_triton
from tests.models.networks import NAMES, shallow, whole

Values = dict[str, Tensor]


@pytest.fixture(params=[CPU_PATH, TRITON_PATH], ids=str)
def path(request: pytest.FixtureRequest) -> Path:
    """Both paths in turn."""
    path: Path = request.param
    reason = why_no_triton() if path is TRITON_PATH else None
    if reason is not None:
        pytest.skip(reason)
    return path


def start(name: str, path: Path) -> tuple[nn.Module, Tensor]:
    """The published network for the CPU path and for a card, its blocks for the interpreter."""
    model, images = shallow(name) if path is TRITON_PATH and path.device == "cpu" else whole(name)
    return model.to(path.device), images.to(path.device)


def loss_of(scores: Tensor) -> Tensor:
    """A loss in which every score counts differently, for scores and for maps of scores."""
    targets = torch.arange(scores.numel() // scores.shape[1], device=scores.device) % scores.shape[1]
    return F.cross_entropy(scores, targets.reshape(scores.shape[0], *scores.shape[2:]))


def train(model: nn.Module, images: Tensor, backend: str, steps: int = 3) -> tuple[Tensor, Values]:
    """The logits and the gradients of the first step, after `steps` steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    first: tuple[Tensor, Values] | None = None
    for _ in range(steps):
        optimizer.zero_grad()
        with kernels.backend(backend):
            scores = model(images)
            loss_of(scores).backward()
        if first is None:
            gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
            first = scores.detach(), gradients
        optimizer.step()
    assert first is not None
    return first


def assert_all_as_good(ours: Values, torchs: Values, exact: Values, what: str) -> None:
    """The precision rule for a network: the largest error of all tensors, each measured by its largest value.

    Tensor by tensor it would compare, for a norm of eight channels, two draws of eight roundings with each other.
    """
    assert ours.keys() == torchs.keys() == exact.keys()
    keys = [key for key, value in ours.items() if value.is_floating_point()]
    scale = {key: float(exact[key].abs().max()) or 1.0 for key in keys}
    for key in keys:
        assert ours[key].shape == torchs[key].shape and ours[key].dtype == torchs[key].dtype, key
    joined = [torch.cat([values[key].flatten() / scale[key] for key in keys]) for values in (ours, torchs, exact)]
    assert_as_good(*joined, what)


@pytest.mark.parametrize("name", NAMES)
def test_logits_gradients_and_three_steps(name: str, path: Path) -> None:
    torchs, images = start(name, path)
    ours, exact = kernels.convert(torchs), copy.deepcopy(torchs).double()
    a = train(ours, images, path.backend)
    b = train(torchs, images, "torch")
    c = train(exact, images.double(), "torch")
    assert_as_good(a[0], b[0], c[0], "logits")
    assert_all_as_good(a[1], b[1], c[1], "gradients")
    assert_all_as_good(*(model.state_dict() for model in (ours, torchs, exact)), "state after three steps")


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_running_statistics_stay_together(name: str) -> None:
    torchs, images = whole(name)
    ours, exact = kernels.convert(torchs.train()), copy.deepcopy(torchs).double()
    for model, batch in ((ours, images), (torchs, images), (exact, images.double())):
        torch.manual_seed(0)
        model(batch)
    assert_all_as_good(*(model.state_dict() for model in (ours, torchs, exact)), "running statistics")
