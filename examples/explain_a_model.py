"""Which kernel runs each layer, how long it takes here, and what another layout or dtype would bring."""

import torch

import kernels

model = kernels.convert(
    torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(16, 32, 3, padding=1, groups=16),
        torch.nn.AdaptiveAvgPool2d(1),
    )
)
print(kernels.explain(model, torch.randn(4, 3, 32, 32), measure=True))
