"""LeNet on the Triton kernels: on real digits the same scores, gradients and training as on torch's operators."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cnn.data import Dataset
from cnn.learn.settings import Recipe
from cnn.learn.training import Trainer
from cnn.models import LeNet
from kernels import backend
from tests.kernels.paths import TRITON_PATH, why_no_triton

pytestmark = pytest.mark.skipif(why_no_triton() is not None, reason=str(why_no_triton()))
DEVICE = torch.device(TRITON_PATH.device)


def scores_and_gradients(name: str, pool: str, activation: str, data: Dataset) -> list[Tensor]:
    torch.manual_seed(0)
    model = LeNet(pool, activation).to(DEVICE)
    images = data.train_images[:2].to(DEVICE).requires_grad_()
    with backend(name):
        scores = model(images)
        F.cross_entropy(scores, data.train_labels[:2].to(DEVICE)).backward()
    gradients = [p.grad for p in model.parameters()]
    assert images.grad is not None
    return [scores.detach(), images.grad, *[g for g in gradients if g is not None]]


@pytest.mark.parametrize(("pool", "activation"), [("max", "relu"), ("avg", "tanh")])
def test_scores_and_gradients_equal_torch(pool: str, activation: str, digits: Dataset) -> None:
    got = scores_and_gradients("triton", pool, activation, digits)
    expected = scores_and_gradients("torch", pool, activation, digits)
    assert len(got) == len(expected) == 12
    for a, b in zip(got, expected, strict=True):
        assert b.abs().max() > 0
        assert (a - b).norm() <= 1e-4 * b.norm()


def test_three_training_steps_equal_torch(digits: Dataset) -> None:
    weights = []
    for name in ("triton", "torch"):
        torch.manual_seed(0)
        model = LeNet()
        with backend(name):
            (result,) = Trainer(model, digits.limited(6), Recipe(epochs=1, batch_size=2), DEVICE).run()
        weights.append([result.loss, *[p.detach().cpu() for p in model.parameters()]])
    assert weights[0][0] == pytest.approx(weights[1][0], rel=1e-4)
    torch.manual_seed(0)
    for a, b, start in zip(weights[0][1:], weights[1][1:], LeNet().parameters(), strict=True):
        assert not torch.equal(b, start)
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)
