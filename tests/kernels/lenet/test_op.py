"""The fused LeNet as an operator: registration, tracing, transforms, errors, and which path runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import kernels
from kernels.common.launch import record
from kernels.lenet import autograd, lenet, lenet_loss, lenet_predict
from tests.kernels.lenet.networks import Network, by_torch, relative
from tests.kernels.paths import Path

# Small, so that the interpreter is quick.
SMALL = Network("small", 2, side=16, padding=0, channels=(2, 3), hidden=(5, 4), classes=3)


def arguments(path: Path, output: str, keep: bool) -> tuple[Any, ...]:
    """Those of the operator itself."""
    labels = SMALL.labels(path.device) if output == "loss" else None
    style = (0, False, False, torch.float32, "flags", torch.float32, output, keep)
    return SMALL.images(path.device), labels, *SMALL.parameters(path.device), *style


@pytest.mark.parametrize("output, keep", [("scores", True), ("loss", True)])
def test_opcheck(triton: Path, output: str, keep: bool) -> None:
    op = torch.ops.triton_cnn.lenet.default
    torch.library.opcheck(op, arguments(triton, output, keep), atol=1e-5, rtol=1e-4)


def test_compiled_training_is_one_graph(triton: Path) -> None:
    parameters, x, labels = SMALL.parameters(triton.device), SMALL.images(triton.device), SMALL.labels(triton.device)

    def step(x: Tensor, labels: Tensor, *parameters: Tensor) -> Tensor:
        return lenet_loss(x * 1.0, labels, parameters, padding=0)[0].mean()

    want = torch.autograd.grad(step(x, labels, *parameters), parameters)
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    for ours, theirs in zip(torch.autograd.grad(compiled(x, labels, *parameters), parameters), want, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_second_derivatives_equal_those_of_the_layers(triton: Path) -> None:
    network = replace(SMALL, activation="tanh")
    parameters, x = network.parameters(triton.device), network.images(triton.device)

    def curvature(y: Tensor) -> tuple[Tensor, ...]:
        first = torch.autograd.grad((y**2).sum(), parameters, create_graph=True)
        return torch.autograd.grad(sum((g**2).sum() for g in first), parameters)

    ours = curvature(lenet(x, parameters, **network.options))
    for a, b in zip(ours, curvature(by_torch(x, parameters, network)), strict=True):
        assert relative(a, b) < 1e-4


def test_gradient_of_the_image(path: Path) -> None:
    parameters, x = SMALL.parameters(path.device), SMALL.images(path.device).requires_grad_()
    (ours,) = torch.autograd.grad(lenet(x, parameters, padding=0).sum(), x)
    (want,) = torch.autograd.grad(by_torch(x, parameters, SMALL).sum(), x)
    assert relative(ours, want) < 1e-5


def test_functional_gradients(triton: Path) -> None:
    parameters, x = [p.detach() for p in SMALL.parameters(triton.device)], SMALL.images(triton.device)
    ours = torch.func.grad(lambda p: lenet(x, p, padding=0).sum())(parameters)
    want = torch.func.grad(lambda p: by_torch(x, p, SMALL).sum())(parameters)
    assert all(relative(a, b) < 1e-5 for a, b in zip(ours, want, strict=True))


def test_a_frozen_layer_has_no_gradient(triton: Path) -> None:
    parameters, x = SMALL.parameters(triton.device), SMALL.images(triton.device)
    parameters[0].requires_grad_(False)
    lenet(x, parameters, padding=0).sum().backward()
    assert parameters[0].grad is None and all(p.grad is not None for p in parameters[1:])


def test_writing_a_saved_weight_is_noticed(triton: Path) -> None:
    parameters, x = SMALL.parameters(triton.device), SMALL.images(triton.device)
    y = lenet(x, parameters, padding=0)
    with torch.no_grad():
        parameters[4].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_changed_weight_is_used_however_it_was_written(triton: Path) -> None:
    """Nothing prepared from the weights is kept from call to call, so that `.data` cannot leave it behind."""
    parameters, x = SMALL.parameters(triton.device), SMALL.images(triton.device)
    before = lenet(x, parameters, padding=0)
    parameters[2].data.neg_()
    after = lenet(x, parameters, padding=0)
    assert relative(after, by_torch(x, parameters, SMALL)) < 1e-5 < relative(after, before)


def test_views_and_an_empty_batch(path: Path) -> None:
    parameters, x = SMALL.parameters(path.device), SMALL.images(path.device)
    strided = torch.full((2, 1, 16, 32), float("nan"), device=path.device)[..., ::2]
    strided.copy_(x)
    with torch.no_grad():
        turned = [p.T.contiguous().T if p.dim() == 2 else p for p in parameters]
        assert relative(lenet(strided, turned, padding=0), by_torch(x, parameters, SMALL)) < 1e-5
    empty = lenet(x[:0], parameters, padding=0)
    empty.sum().backward()
    assert empty.shape == (0, 3) and all(p.grad is not None and not p.grad.any() for p in parameters)


def test_autocast(path: Path) -> None:
    parameters, x = SMALL.parameters(path.device), SMALL.images(path.device)
    with torch.autocast(path.device, torch.bfloat16):
        y, want = lenet(x, parameters, padding=0), by_torch(x, parameters, SMALL)
    assert y.dtype == want.dtype == torch.bfloat16
    assert relative(y, want) < 0.03
    y.sum().backward()
    assert parameters[0].grad is not None and parameters[0].grad.dtype == torch.float32


def test_explain_names_the_kernel(triton: Path) -> None:
    network = Network("full size", 4096)
    parameters, x = network.parameters(triton.device), network.images(triton.device)
    with torch.no_grad():
        text = str(kernels.explain(lenet, x[:1], parameters))
    assert "forward_kernel: 1 programs" in text and "BLOCK_1=" in text
    assert "pack_kernel" not in text, "one launch for one image"
    with kernels.backend("torch"):
        assert 'backend("torch")' in str(kernels.explain(lenet, x[:1], parameters))


@pytest.mark.parametrize("n", [65537, 2**20])
def test_launches_of_large_batches(triton: Path, n: int) -> None:
    """No host loop, scratch that does not grow with the batch, and offsets that a program keeps below 2^31."""
    network = Network("large", n)
    parameters = network.parameters(triton.device)
    x = torch.empty((1, 1, 28, 28), device=triton.device).expand(n, 1, 28, 28).as_strided((n, 1, 28, 28), (0, 0, 28, 1))
    with record() as launches, torch.no_grad():
        style = (2, False, False, torch.float32, "tf32", torch.float32, "scores", False)
        autograd.lenet(x, None, *parameters, *style)
    pack, forward = launches
    assert pack.kernel.__name__ == "pack_kernel" and forward.arguments["n"] == n
    images = forward.arguments["IMAGES"]
    assert forward.grid == 2 * 132 or triton.device != "cpu"
    assert forward.arguments["y1_ptr"].numel() <= forward.grid * (images * (196 * 8 + 400 + 120 + 84) + 4 * 16)
    assert images * 28 * 28 * 8 < 2**31


@pytest.mark.parametrize(
    "change, error, message",
    [
        (lambda x, p: (x[:, 0], p, {}), RuntimeError, r"input must be \[n, 1, h, w\]"),
        (lambda x, p: (x, p[:9], {}), TypeError, "expected 10 parameters"),
        (lambda x, p: (x, [*p[:9], None], {}), TypeError, "fc3.bias must be a Tensor, not NoneType"),
        (lambda x, p: (x, [*p[:4], p[6], *p[5:]], {}), RuntimeError, r"fc1.weight is \(4, 5\), but .* need \(5, 3\)"),
        (lambda x, p: (x[..., :15], p, {}), RuntimeError, "too small"),
        (lambda x, p: (x, p, {"padding": -1}), RuntimeError, "negative padding"),
        (lambda x, p: (x.half(), p, {}), RuntimeError, "input is torch.float16, but conv1.weight torch.float32"),
        (lambda x, p: (x, p, {"pool": "min"}), ValueError, "pool must be one of"),
        (lambda x, p: (x, p, {"activation": "gelu"}), ValueError, "activation must be one of"),
        (lambda x, p: (x, p, {"arithmetic": "int8"}), ValueError, "arithmetic must be one of"),
        (lambda x, p: (x.double(), [t.double() for t in p], {}), NotImplementedError, "float64 has no fused kernel"),
    ],
)
def test_errors(triton: Path, change: Any, error: type[Exception], message: str) -> None:
    x, parameters, options = change(SMALL.images(triton.device), SMALL.parameters(triton.device))
    with pytest.raises(error, match=message):
        lenet(x, parameters, **{"padding": 0, **options})


def test_what_the_kernel_does_not_hold_takes_the_layers(triton: Path) -> None:
    wide = replace(SMALL, channels=(9, 3))
    parameters, x = wide.parameters(triton.device), wide.images(triton.device)
    with pytest.raises(NotImplementedError, match="conv1 has 9 outputs; the fused kernel takes 1 to 8"):
        lenet(x, parameters, padding=0)
    with kernels.backend("auto"):
        assert relative(lenet_predict(x, parameters, padding=0)[1], by_torch(x, parameters, wide).softmax(1)) < 1e-5


def test_labels_of_the_wrong_kind(path: Path) -> None:
    parameters, x = SMALL.parameters(path.device), SMALL.images(path.device)
    with pytest.raises(RuntimeError, match=r"labels must be int64 \[2\], not torch.int32 \(2,\)"):
        lenet_loss(x, SMALL.labels(path.device).int(), parameters, padding=0)
