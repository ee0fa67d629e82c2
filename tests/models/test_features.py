"""What people do with a model besides calling it: compile, export, mixed precision, save, copy, checkpoint, layouts."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

import kernels
from kernels.common.launch import record
from tests.kernels.paths import CPU_PATH, TRITON_PATH, Path, why_no_triton
from tests.models.networks import NAMES, shallow
from tests.models.test_training import loss_of


def converted(name: str) -> tuple[nn.Module, nn.Module, Tensor]:
    """(ours, torch's, images), both in evaluation mode."""
    model, images = shallow(name)
    return kernels.convert(model), model, images


@pytest.mark.parametrize("name", NAMES)
def test_compiles_for_training_and_inference(name: str) -> None:
    ours, torchs, images = converted(name)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    scores = compiled(images)
    loss_of(scores).backward()
    want = torchs(images)
    loss_of(want).backward()
    torch.testing.assert_close(scores, want)
    for a, b in zip(ours.parameters(), torchs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    torch._dynamo.reset()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("path", [CPU_PATH, TRITON_PATH], ids=str)
def test_exports(name: str, path: Path) -> None:
    if path is TRITON_PATH and (reason := why_no_triton()):
        pytest.skip(reason)
    ours, torchs, images = converted(name)
    with path.enter(), torch.no_grad():
        program = torch.export.export(ours, (images,))
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    is_ours = [target for target in targets if target.startswith("triton_cnn.")]
    count = sum(isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)) for m in torchs.modules())
    if path is TRITON_PATH:
        # One operator a convolution: what was fused into it is gone.
        assert sum("conv2d" in target for target in is_ours) == count
        assert not any("aten.conv" in target for target in targets)
    else:
        assert not is_ours  # a program exported on the CPU path loads where this package is not installed
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        buffer.seek(0)
        torch.testing.assert_close(torch.export.load(buffer).module()(images), torchs(images))


@pytest.mark.parametrize("name", NAMES)
def test_trains_in_mixed_precision(name: str) -> None:
    ours, torchs, images = converted(name)
    gradients = []
    for model in (ours, torchs):
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model(images).float())
        loss.backward()
        gradients.append([p.grad for p in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        assert a.dtype == b.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.1, atol=0.02 * float(b.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_saves_loads_copies_and_pickles(name: str) -> None:
    ours, torchs, images = converted(name)
    want = ours(images)
    assert list(ours.state_dict()) == list(torchs.state_dict())
    with torch.no_grad():
        for parameter in torchs.parameters():
            parameter.mul_(0.5)
    ours.load_state_dict(torchs.state_dict())
    torchs.load_state_dict(kernels.convert(torchs).state_dict())
    torch.testing.assert_close(ours(images), torchs(images))
    assert not torch.equal(ours(images), want)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert [type(m) for m in other.modules()] == [type(m) for m in ours.modules()]
        assert torch.equal(other(images), ours(images))
        assert repr(other) == repr(torchs)


@pytest.mark.parametrize("name", ["vgg11", "squeezenet", "resnet18", "unet"])
@pytest.mark.parametrize("reentrant", [False, True], ids=["saved", "reentrant"])
def test_gradient_checkpointing(name: str, reentrant: bool) -> None:
    ours, torchs, images = converted(name)
    images.requires_grad_()
    loss_of(checkpoint(ours, images, use_reentrant=reentrant)).backward()
    loss_of(torchs(images)).backward()
    for a, b in zip(ours.parameters(), torchs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


COPIES = {"aten::contiguous", "aten::clone", "aten::_to_copy", "aten::copy_"}


def copies(model: nn.Module, images: Tensor) -> int:
    """Copies of activations in one call. Kernels are recorded, not run: the interpreter copies what it is given."""
    with torch.no_grad(), record(), profile(activities=[ProfilerActivity.CPU]) as recorded:
        result = model(images)
    assert result.shape[0] == images.shape[0]
    return sum(event.count for event in recorded.key_averages() if event.key in COPIES)


@pytest.mark.parametrize("name", ["vgg11", "vgg16", "squeezenet", "unet", "mobilenet_v2"])
@pytest.mark.parametrize("path", [CPU_PATH, TRITON_PATH], ids=str)
def test_channels_last_from_end_to_end(name: str, path: Path) -> None:
    """Every map stays in channels_last, and no more is copied than torch's own network copies."""
    if path is TRITON_PATH and (reason := why_no_triton()):
        pytest.skip(reason)
    ours, torchs, images = converted(name)
    ours, torchs = ours.to(memory_format=torch.channels_last), torchs.to(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)
    with path.enter():
        assert copies(ours, images) <= copies(torchs, images)
        layouts: list[bool] = []
        for layer in ours.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(
                    lambda m, i, o: layouts.append(o.is_contiguous(memory_format=torch.channels_last))
                )
        torch.testing.assert_close(ours(images), torchs(images), rtol=1e-4, atol=1e-5)
    assert layouts and all(layouts)
