"""Layer by layer: which layers convert exchanges, what stays as it was, and the way back."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import kernels
from kernels.convert.layers import OURS


class MyConv(nn.Conv2d):
    """A subclass, whose forward differs."""

    def forward(self, input: Tensor) -> Tensor:
        """Twice the convolution."""
        return 2 * super().forward(input)


EXAMPLES: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Conv2d(2, 4, 3, 2, "valid", 2, 2, False), (1, 2, 9, 9)),
    (nn.Conv2d(2, 4, (3, 1), padding="same", padding_mode="reflect"), (1, 2, 9, 9)),
    (nn.MaxPool2d(3, 2, 1, 1, True, True), (1, 2, 9, 9)),
    (nn.AvgPool2d(3, 2, 1, True, False, 5), (1, 2, 9, 9)),
    (nn.ConvTranspose2d(2, 4, 3, 2, 1, 1, 2, False, 1), (1, 2, 5, 5)),
    (nn.AdaptiveAvgPool2d((None, 3)), (1, 2, 9, 9)),
    (nn.AdaptiveMaxPool2d(3, return_indices=True), (1, 2, 9, 9)),
    (nn.Conv1d(2, 4, 3, 2, 1, 2, 2, True, "circular"), (1, 2, 9)),
    (nn.MaxPool1d(3, 2, 1, 1, True, True), (1, 2, 9)),
    (nn.AvgPool1d(3, 2, 1, True, False), (1, 2, 9)),
]


def test_every_layer_has_an_example() -> None:
    assert {type(layer) for layer, _ in EXAMPLES} == set(OURS)


@pytest.mark.parametrize(
    ("layer", "shape"), EXAMPLES, ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else ""
)
def test_a_layer_alone(layer: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    ours = kernels.convert(layer)
    assert type(ours) is OURS[type(layer)] and isinstance(ours, type(layer))
    assert repr(ours) == repr(layer)
    torch.testing.assert_close(ours(x), layer(x))
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        torch.testing.assert_close(other(x), layer(x))
    back = kernels.revert(ours)
    assert type(back) is type(layer) and type(ours) is OURS[type(layer)]


def test_transposed_convolution_of_a_given_size() -> None:
    layer, x = nn.ConvTranspose2d(2, 3, 3, stride=2), torch.randn(1, 2, 4, 4)
    ours = kernels.convert(layer)
    torch.testing.assert_close(ours(x, output_size=[10, 10]), layer(x, output_size=[10, 10]))
    with pytest.raises(ValueError, match="output size"):
        ours(x, output_size=[99, 99])


def test_containers_shared_layers_and_tied_weights() -> None:
    shared = nn.Conv2d(3, 3, 1)
    model = nn.ModuleDict({"a": nn.Sequential(shared, shared), "b": nn.ModuleList([shared, nn.Conv2d(3, 3, 1)])})
    model["b"][1].weight = shared.weight
    ours = kernels.convert(model)
    layers = [ours["a"][0], ours["a"][1], ours["b"][0]]
    assert all(layer is layers[0] for layer in layers) and type(layers[0]) is kernels.Conv2d
    assert ours["b"][1].weight is layers[0].weight and layers[0].weight is not shared.weight
    assert list(ours.state_dict()) == list(model.state_dict())
    rows = {row.names: row.state for row in kernels.report(ours).rows}
    assert rows[("a.0", "a.1", "b.0")] == "converted"


def test_what_a_layer_holds_stays() -> None:
    layer = nn.Conv2d(2, 3, 3).double().eval()
    layer.weight.requires_grad_(False)
    layer.register_buffer("note", torch.ones(2))
    layer.mark = "mine"  # type: ignore[assignment]
    before = {id(p) for p in layer.parameters()}
    ours = kernels.convert(layer, inplace=True)
    assert ours is layer and {id(p) for p in ours.parameters()} == before
    assert not ours.training and not ours.weight.requires_grad and ours.weight.dtype == torch.float64
    assert ours.mark == "mine" and "note" in ours.state_dict()  # type: ignore[comparison-overlap]


def test_an_optimizer_made_before_goes_on() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    kernels.convert(model, inplace=True)
    before = model[0].weight.clone()
    model(torch.randn(1, 1, 9, 9)).sum().backward()
    optimizer.step()
    assert not torch.equal(model[0].weight, before)


def test_converting_twice_and_reverting() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2))
    once = kernels.convert(model)
    twice = kernels.convert(once)
    assert [type(m) for m in twice.modules()] == [type(m) for m in once.modules()]
    assert [type(m) for m in kernels.revert(twice).modules()] == [type(m) for m in model.modules()]
    assert [type(m) for m in kernels.revert(model).modules()] == [type(m) for m in model.modules()]


def test_subclasses_and_lazy_layers_are_left_alone() -> None:
    model = nn.Sequential(MyConv(1, 1, 1), nn.LazyConv2d(2, 1))
    ours = kernels.convert(model)
    assert [type(m) for m in ours] == [MyConv, nn.LazyConv2d]
    notes = [(row.state, row.note) for row in kernels.report(ours).rows]
    assert [state for state, _ in notes] == ["left", "left"]
    assert "subclass of Conv2d" in notes[0][1]


def test_a_forward_replaced_on_the_instance_is_left_alone() -> None:
    layer = nn.Conv2d(1, 1, 1)
    layer.forward = lambda x: x + 1  # type: ignore[method-assign,assignment]
    ours = kernels.convert(layer, inplace=True)
    assert type(ours) is nn.Conv2d and float(ours(torch.zeros(()))) == 1
    assert "replaced on the instance" in str(kernels.report(ours))


def weight_norm(layer: nn.Module) -> Any:
    return parametrizations.weight_norm(layer)


def spectral_norm(layer: nn.Module) -> Any:
    return parametrizations.spectral_norm(layer)


def old_weight_norm(layer: nn.Module) -> Any:
    return nn.utils.weight_norm(layer)


def pruning(layer: nn.Module) -> Any:
    return prune.l1_unstructured(layer, "weight", 0.5)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("change", [weight_norm, spectral_norm, old_weight_norm, pruning])
def test_parametrized_layers(change: Any) -> None:
    model = nn.Sequential(change(nn.Conv2d(2, 3, 3)), nn.ReLU()).eval()
    x = torch.randn(1, 2, 6, 6)
    want = model(x)
    ours = kernels.convert(model, inplace=True)
    assert isinstance(ours[0], kernels.Conv2d)
    torch.testing.assert_close(ours(x), want)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.mul_(0.5)
    changed = ours(x)
    assert not torch.allclose(changed, want)
    if parametrize.is_parametrized(ours[0]):
        parametrize.remove_parametrizations(ours[0], "weight")
        assert type(ours[0]) is kernels.Conv2d
        torch.testing.assert_close(ours(x), changed)
    assert isinstance(kernels.revert(ours, inplace=True)[0], nn.Conv2d)
    assert not isinstance(ours[0], kernels.Conv2d)
    torch.testing.assert_close(ours(x), changed)


def test_only_modules() -> None:
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module, got function"):
        kernels.convert(test_only_modules)  # type: ignore[type-var]
