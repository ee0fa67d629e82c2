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


def errors(got: Values, exact: Values) -> Tensor:
    """Every element's error, measured by the largest value of its tensor."""
    parts = []
    for key, truth in exact.items():
        if truth.is_floating_point():
            parts.append((got[key].double() - truth).flatten() / (float(truth.abs().max()) or 1.0))
    return torch.cat(parts).cpu()


def assert_all_as_good(ours: Values, torchs: Values, exact: Values, what: str) -> None:
    """The precision rule for all tensors of a network: the root mean square of our errors is at most twice torch's.

    The largest error of a whole network is one draw from a long tail: over eight seeds of one network ours was between
    0.5 and 4.6 times torch's, either way. It is held to ten times.
    """
    assert ours.keys() == torchs.keys() == exact.keys()
    for key, value in ours.items():
        assert value.shape == torchs[key].shape and value.dtype == torchs[key].dtype, key
    a, b = errors(ours, exact), errors(torchs, exact)
    eps = torch.finfo(torch.float32).eps
    for name, norm, factor in (("root mean square", _root_mean_square, 2), ("largest", _largest, 10)):
        found, allowed = norm(a), factor * norm(b) + eps
        assert found <= allowed, f"{what}: {name} error {found:.3g} is more than {allowed:.3g} (torch's {norm(b):.3g})"


def _root_mean_square(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _largest(values: Tensor) -> float:
    return float(values.abs().max())


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
