"""trace on any module: hooks, functions between layers, this package's fused layers; and what it leaves behind."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnn.errors import UserError
from cnn.models import LeNet
from cnn.see.arithmetic import receptive_fields, summary
from cnn.see.trace import Step, Trace, trace
from kernels import ConvReLU2d, ConvReLUPool2d, MaxPool2d, convert


class Functional(nn.Module):
    """A person's own model: functions between layers, batch norm, a residual sum, a global pool."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding="same")
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.first(x))), 2)
        x = x + self.second(x)
        x = F.avg_pool2d(torch.tanh(x).contiguous(), 2, 1)
        return self.out(F.adaptive_max_pool2d(x, 1).view(-1, 4))


def redone(step: Step, x: Tensor) -> Tensor:
    """The step's output computed from its input by torch, from what its Op says."""
    op = step.op
    sizes = (op.stride, op.padding, op.dilation)
    if op.kind == "conv":
        return F.conv2d(x, op.weight, op.bias, *sizes, op.groups)
    if op.kind == "max":
        return F.max_pool2d(x, op.kernel, *sizes).reshape(step.output.shape)
    if op.kind == "avg":
        return F.avg_pool2d(x, op.kernel, op.stride, op.padding).reshape(step.output.shape)
    if op.kind == "linear":
        return F.linear(x, op.weight, op.bias)
    if op.kind == "scale":
        return x * op.weight[:, None, None] + op.bias[:, None, None]
    return {"relu": torch.relu, "tanh": torch.tanh, "flatten": lambda v: v.flatten(1), "identity": lambda v: v}[
        op.kind
    ](x)


def check(seen: Trace) -> None:
    for step in seen.steps:
        x = seen.input_of(step)
        if x is not None and step.op.kind != "other":
            torch.testing.assert_close(redone(step, x), step.output, atol=1e-5, rtol=1e-5, msg=step.name)


def test_fused_layers_are_opened() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        ConvReLUPool2d(1, 6, 5, padding=2, pool="avg"),
        ConvReLU2d(6, 16, 5),
        MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 3),
    )
    image = torch.randn(1, 1, 28, 28)
    seen = trace(model, image)
    assert [s.name for s in seen.steps] == ["0.conv", "0.relu", "0.avg", "1.conv", "1.relu", "2", "3", "4"]
    assert [s.source for s in seen.steps] == [-1, 0, 1, 2, 3, 4, 5, 6]
    check(seen)
    assert seen.output is not None
    torch.testing.assert_close(seen.output, model(image))


@pytest.mark.parametrize("settings", [{}, {"activation": "tanh", "pool": "avg"}, {"pool": "avg"}])
def test_lenet_in_all_its_forms(settings: dict[str, str]) -> None:
    seen = trace(LeNet(**settings), torch.randn(1, 1, 28, 28))
    assert len(seen.steps) == 12
    assert seen.steps[-1].name == "fc3"
    check(seen)


def test_a_persons_own_model_with_functions() -> None:
    torch.manual_seed(0)
    model = Functional()
    model(torch.randn(8, 1, 12, 12))  # batch norm has seen something
    seen = trace(model, torch.randn(1, 1, 12, 12))
    kinds = [s.op.kind for s in seen.steps]
    assert kinds == ["conv", "scale", "relu", "max", "conv", "other", "tanh", "avg", "max", "flatten", "linear"]
    # The sum is seen, as a step that a reader cannot redo from one input.
    assert [s.source for s in seen.steps] == [-1, 0, 1, 2, 3, 3, 5, 6, 7, 8, 9]
    assert seen.steps[5].name == "norm.add"
    assert torch.equal(seen.steps[5].output, seen.steps[3].output + seen.steps[4].output)
    check(seen)
    assert receptive_fields(seen)[5] is None
    assert [r.name for r in summary(seen)][:4] == ["first", "norm", "norm.relu", "norm.max"]


def test_outputs_are_clones_also_before_an_in_place_relu() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True))
    seen = trace(model, torch.randn(1, 1, 8, 8))
    assert seen["0"].output.min() < 0
    assert torch.equal(seen["1"].output, seen["0"].output.relu())
    assert not any(s.output.requires_grad for s in seen.steps)


def test_hooks_and_mode_are_restored_also_after_an_error() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.drop = nn.Conv2d(1, 1, 3), nn.Dropout()

        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("broken" + str(self.drop(self.conv(x)).shape))

    model = Broken().train()
    model.drop.eval()
    with pytest.raises(RuntimeError, match="broken"):
        trace(model, torch.zeros(1, 1, 8, 8))
    assert model.training
    assert not model.drop.training
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_it_asks_for_four_dimensions_and_names_its_steps() -> None:
    with pytest.raises(UserError, match=r"must be \(N, C, H, W\), got \(28, 28\)"):
        trace(LeNet(), torch.zeros(28, 28))
    with pytest.raises(KeyError, match="conv9"):
        trace(LeNet(), torch.zeros(1, 1, 28, 28))["conv9"]


def test_receptive_fields_are_what_the_gradient_says() -> None:
    """Every weight is 1 and pools are means, so that no pixel's part vanishes."""
    net = nn.Sequential(nn.Conv2d(1, 1, 5, padding=2), nn.AvgPool2d(2), nn.Conv2d(1, 1, 3, dilation=2), nn.AvgPool2d(2))
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    image = torch.ones(1, 1, 32, 32, requires_grad=True)
    y = net(image)[0, 0]
    seen = []
    for cell in (2, 3):  # neither sees the image's edge
        (gradient,) = torch.autograd.grad(y[cell, cell], image, retain_graph=True)
        seen.append(gradient[0, 0].sum(1).nonzero().flatten().tolist())
    field = receptive_fields(trace(net, image.detach()))[-1]
    assert field is not None
    assert [len(rows) for rows in seen] == [field[0].size] * 2 == [5 + 1 + 4 * 2 + 2] * 2
    assert seen[1][0] - seen[0][0] == field[0].jump == 4


def test_a_converted_model_shows_the_same_steps() -> None:
    """convert fuses Conv, ReLU and pool into one call; under hooks it runs them apart, for all to see."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1176, 3))
    image = torch.randn(1, 1, 28, 28)
    before, after = trace(plain, image), trace(convert(plain), image)
    assert [(s.name, s.op.kind, s.source) for s in after.steps] == [(s.name, s.op.kind, s.source) for s in before.steps]
    for one, other in zip(before.steps, after.steps, strict=True):
        torch.testing.assert_close(other.output, one.output, atol=1e-5, rtol=1e-5)
