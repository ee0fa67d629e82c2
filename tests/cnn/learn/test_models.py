"""The models: sizes, names, settings, and that conv1 to fc3 compute what torch's own layers compute."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnn.errors import UserError
from cnn.models import EDGES, MLP, FilterNet, GapCNN, LeNet, build, name_of, parameter_count, probabilities


def sizes(model: nn.Module) -> list[int]:
    return [parameter_count(layer) for layer in model.children() if parameter_count(layer)]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("pool", ["max", "avg"])
def test_lenet_has_61706_parameters_under_stable_names(pool: str, activation: str) -> None:
    model = LeNet(pool, activation)
    assert sizes(model) == [156, 2416, 48120, 10164, 850]
    assert parameter_count(model) == 61706
    names = [f"{layer}.{part}" for layer in ("conv1", "conv2", "fc1", "fc2", "fc3") for part in ("weight", "bias")]
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("pool", ["max", "avg"])
def test_lenet_equals_torch_functions(pool: str, activation: str) -> None:
    torch.manual_seed(0)
    model = LeNet(pool, activation)
    x = torch.rand(5, 1, 28, 28)
    act = torch.relu if activation == "relu" else torch.tanh
    pooled = F.max_pool2d if pool == "max" else F.avg_pool2d
    y = pooled(act(F.conv2d(x, model.conv1.weight, model.conv1.bias, padding=2)), 2)
    y = pooled(act(F.conv2d(y, model.conv2.weight, model.conv2.bias)), 2)
    assert y.shape == (5, 16, 5, 5)
    y = act(F.linear(y.flatten(1), model.fc1.weight, model.fc1.bias))
    y = model.fc3(act(model.fc2(y)))
    torch.testing.assert_close(model(x), y, rtol=1e-4, atol=1e-5)


def test_mlp_has_669706_parameters() -> None:
    assert sizes(MLP()) == [401920, 262656, 5130]
    assert parameter_count(MLP()) == 669706
    assert MLP()(torch.rand(3, 1, 28, 28)).shape == (3, 10)


def test_gap_has_23946_parameters_and_takes_any_size() -> None:
    model = GapCNN()
    assert parameter_count(model) == 23946
    assert model(torch.rand(2, 1, 28, 28)).shape == model(torch.rand(2, 1, 40, 36)).shape == (2, 10)


def test_filternet_weights_equal_the_filters() -> None:
    model = FilterNet()
    assert parameter_count(model) == 64
    for i, expected in enumerate((EDGES, -EDGES, EDGES.T, -EDGES.T)):
        assert torch.equal(model.conv.weight[i, 0], expected)
    x = torch.rand(1, 1, 512, 600)
    expected = F.max_pool2d(F.relu(F.conv2d(x, model.conv.weight)), 2)
    assert expected.shape == (1, 4, 254, 298)
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


def test_filternet_takes_other_filters() -> None:
    model = FilterNet([[[1.0, 2.0, 3.0]]])
    assert model.conv.weight.flatten().tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match=r"\(count, height, width\), not \(4, 4\)"):
        FilterNet(EDGES)


@pytest.mark.parametrize("name", ["lenet", "mlp", "gap", "filternet"])
def test_a_model_is_rebuilt_from_its_config(name: str) -> None:
    model = build(name)
    again = build(name_of(model), model.config)
    assert type(again) is type(model)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


def test_unknown_names_and_settings_are_named() -> None:
    with pytest.raises(UserError, match="'vgg' is unknown; choose from lenet"):
        build("vgg")
    with pytest.raises(UserError, match="pool must be 'max' or 'avg', not 'min'"):
        build("lenet", {"pool": "min"})
    with pytest.raises(ValueError, match="activation must be"):
        LeNet(activation="gelu")
    with pytest.raises(UserError, match="unexpected keyword"):
        build("mlp", {"pool": "max"})
    with pytest.raises(UserError, match="Linear is not one of"):
        name_of(nn.Linear(1, 1))


def test_probabilities_sum_to_one() -> None:
    torch.testing.assert_close(probabilities(torch.randn(4, 10) * 50).sum(1), torch.ones(4))
