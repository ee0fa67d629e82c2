"""BatchNorm folded into the convolution before it, where the code proves the pair."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kernels


class Net(nn.Module):
    """A pair that is proven, one whose convolution is used twice, one whose norm comes later, one in a Sequential."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.conv3, self.norm3 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.seq = nn.Sequential(nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = self.norm1(x)
        x = F.relu(x)
        x = self.norm2(self.conv2(x)) + self.conv2(x)
        x = self.norm3(F.relu(self.conv3(x)))
        return self.seq(x)


def network() -> Net:
    """A network whose norms have statistics and factors that matter."""
    model = Net()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.running_var, module.weight, module.bias):
                assert values is not None
                nn.init.uniform_(values, 0.5, 1.5)
    return model.eval()


def test_proven_pairs_are_folded() -> None:
    model, x = network(), torch.randn(2, 3, 8, 8)
    ours = kernels.convert(model, fold_batch_norm=True)
    torch.testing.assert_close(ours(x), model(x))
    kept = [name for name, module in ours.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert kept == ["norm2", "norm3"]
    assert type(ours.norm1) is nn.Identity and ours.conv1.bias is not None and model.conv1.bias is None
    fused = {row.names[0]: row.note for row in kernels.report(ours).rows if row.state == "fused"}
    assert fused == {"conv1": "with relu", "conv3": "with relu", "seq.0": "with ReLU (seq.2)"}
    torch.testing.assert_close(kernels.revert(ours)(x), model(x))


def test_not_unless_asked_and_not_in_training() -> None:
    ours = kernels.convert(network())
    assert sum(isinstance(m, nn.BatchNorm2d) for m in ours.modules()) == 4
    with pytest.raises(ValueError, match=r"call model\.eval\(\)"):
        kernels.convert(network().train(), fold_batch_norm=True)


def test_hooks_and_shared_layers_keep_the_norm() -> None:
    model, x = network(), torch.randn(2, 3, 8, 8)
    model.norm1.register_forward_hook(lambda m, i, o: None)
    model.again = model.seq[0]
    ours = kernels.convert(model, fold_batch_norm=True)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in ours.modules()) == 4
    torch.testing.assert_close(ours(x), model(x))
