"""LeNet whole or layer by layer: the same scores and gradients, the same commands, the same checkpoint."""

from __future__ import annotations

import copy
import json

import pytest
import torch
import torch.nn.functional as F

from cnn.__main__ import main
from cnn.data import Dataset
from cnn.models import LeNet, name_of, set_fused


@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_same_network(pool: str, activation: str, digits: Dataset) -> None:
    fused = LeNet(pool, activation, fused=True)
    layers = set_fused(copy.deepcopy(fused), False)
    assert name_of(fused) == "lenet" and fused.config == layers.config
    assert fused.state_dict().keys() == layers.state_dict().keys()
    images, labels = digits.train_images[:8], digits.train_labels[:8]
    for model in (fused, layers):
        F.cross_entropy(model(images), labels).backward()
    torch.testing.assert_close(fused(images), layers(images), atol=1e-5, rtol=1e-5)
    for a, b in zip(fused.parameters(), layers.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4)


def test_the_commands_take_either(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    results = {}
    for flag in ("--fused", "--no-fused"):
        folder = str(tmp_path / flag)
        train = ["train", "--epochs", "1", "--limit", "64", "--quiet", "--json", "--output", folder, flag]
        assert main(train) == 0
        capsys.readouterr()
        for other in ("--fused", "--no-fused"):
            assert main(["evaluate", "--checkpoint", f"{folder}/model.pt", "--limit", "64", "--json", other]) == 0
            results[flag, other] = json.loads(capsys.readouterr().out)["test_loss"]
    first, *rest = results.values()
    assert rest == pytest.approx([first] * 3, rel=1e-3)
