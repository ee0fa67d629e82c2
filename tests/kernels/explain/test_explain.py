"""explain of a model: one line a call, what is fused as one, and the model as it was before."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import kernels
from cnn.models import LeNet
from kernels import modules
from kernels.common.launch import record
from kernels.common.roofline import LIMITS
from kernels.convert import chain
from kernels.lenet import lenet
from kernels.lenet.predicted import predict
from tests.kernels.paths import Path


def network() -> nn.Sequential:
    inner = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU())
    layers = [nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), inner, nn.ConvTranspose2d(6, 2, 2, 2)]
    return nn.Sequential(*layers, nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1))


NAMES = [
    ("0", "conv2d_relu_pool2d"),
    ("3.0", "conv2d_relu"),
    ("4", "conv_transpose2d"),
    ("5", "avg_pool2d"),
    ("6", "adaptive_avg_pool2d"),
]


def test_a_line_for_every_call(path: Path) -> None:
    model = kernels.convert(network()).to(path.device)
    found = kernels.explain(model, torch.randn(2, 3, 10, 10, device=path.device))
    assert [(c.layer, c.explanation.function) for c in found.calls] == NAMES
    assert {c.explanation.path for c in found.calls} == {path.name}
    first = found.calls[0]
    assert first.input == (2, 3, 10, 10) and first.weight == (4, 3, 3, 3) and first.layout == "contiguous"
    assert first.flops == 2 * 2 * 4 * 8 * 8 * 27
    assert first.bytes == 4 * (2 * 3 * 10 * 10 + 4 * 27 + 2 * 4 * 4 * 4)
    assert found.calls[2].flops == 2 * 2 * 6 * 4 * 4 * 2 * 4
    assert all(bool(c.explanation.launches) == (path.name == "triton") for c in found.calls)
    text = str(found)
    assert "2x3x10x10" in text and "measured us" not in text


def test_measured_on_request() -> None:
    model = kernels.convert(network()).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 10, 10).contiguous(memory_format=torch.channels_last)
    found = kernels.explain(model, x, measure=True)
    for call in found.calls:
        assert call.seconds is not None and call.seconds > 0
        assert call.share is not None and 0 < call.share <= 1
        assert "bfloat16" in call.changes and all(ratio > 0 for ratio in call.changes.values())
    assert "contiguous" in found.calls[0].changes and found.calls[0].layout == "channels_last"


def test_nothing_stays_behind() -> None:
    before = modules.conv2d, chain.conv2d_relu
    model = kernels.convert(network())
    with pytest.raises(RuntimeError):
        kernels.explain(model, torch.randn(2, 7, 10, 10))
    assert (modules.conv2d, chain.conv2d_relu) == before
    untouched = kernels.explain(network(), torch.randn(1, 3, 10, 10))
    assert untouched.calls == () and "convert(model)" in str(untouched)
    layer = kernels.Conv2d(1, 1, 1)
    assert str(kernels.explain(layer, torch.ones(1, 1, 2, 2))).splitlines()[1].startswith("(root)")


def test_a_function_is_explained_as_before() -> None:
    found = kernels.explain(kernels.max_pool2d, torch.randn(1, 1, 4, 4), 2)
    assert found.path == "cpu" and found.reason
    assert "torch's operators" in kernels.explain(kernels.conv1d, torch.ones(1, 1, 4), torch.ones(1, 1, 1)).reason


def test_predicted_where_triton_runs(triton: Path) -> None:
    model = kernels.convert(network()).to(triton.device)
    found = kernels.explain(model, torch.randn(2, 3, 10, 10, device=triton.device))
    for call in found.calls:
        guess = call.predicted
        assert guess is not None and guess.prediction.seconds > guess.prediction.floor > 0
        assert {"channels_last"} < set(guess.changes) and all(ratio > 0 for ratio in guess.changes.values())
    head = str(found).splitlines()[0]
    assert "predicted us" in head and "predicted of limit" in head and "of limit" in head
    with kernels.backend("auto"):
        on_cpu = kernels.explain(kernels.convert(network()), torch.randn(2, 3, 10, 10))
    assert all(call.predicted is None for call in on_cpu.calls) and "predicted" not in str(on_cpu)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_fused_lenet_is_one_line(path: Path, activation: str) -> None:
    model = LeNet(fused=True, activation=activation).to(path.device)
    x = torch.rand(3, 1, 28, 28, device=path.device)
    before = model(x)
    (call,) = kernels.explain(model, x).calls
    assert (call.layer, call.explanation.function, call.explanation.path) == ("", "lenet", path.name)
    assert call.input == (3, 1, 28, 28) and call.flops == 2 * 3 * (784 * 150 + 100 * 2400 + 48000 + 10080 + 840)
    assert call.bytes == 4 * (3 * 784 + 61_706 + 3 * 10)
    if path.name == "triton":
        assert [launch.kernel.__name__ for launch in call.explanation.launches] == ["forward_kernel"]
        assert call.predicted is not None and set(call.predicted.changes) <= {"float16", "bfloat16"}
    elif activation == "tanh":
        assert "the layers one by one" in call.explanation.reason
    assert torch.equal(model(x), before), "the model is as it was"


def test_the_fused_lenet_is_predicted_by_its_batch(triton: Path) -> None:
    """As the table of kernels/lenet/README.md, by the same formula."""
    parameters = list(LeNet().to(triton.device).parameters())
    limits = LIMITS["sm_90"]
    took = []
    for n in (1, 256, 4096, 65536):
        x = torch.empty((1, 1, 28, 28), device="cpu").expand(n, 1, 28, 28)
        with record() as launches, torch.no_grad():
            lenet(x.as_strided((n, 1, 28, 28), (0, 0, 28, 1)), parameters, arithmetic="float16")
        took.append(predict(launches, limits).seconds)
    assert took == sorted(took)
    assert 5e-6 < took[0] < 20e-6 and 200e-6 < took[-1] < 600e-6
