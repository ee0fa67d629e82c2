"""Somebody's network on this package's layers: what was done, the same scores, and the way back."""

import torch

import kernels


class Net(torch.nn.Module):
    """Any network of torch layers will do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(32)
        self.fc = torch.nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, 10)."""
        x = torch.nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = torch.relu(self.norm(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


model = Net().eval()
images = torch.randn(4, 3, 32, 32)

fast = kernels.convert(model, fold_batch_norm=True)  # the model itself is untouched; inplace=True changes it
print(kernels.report(fast))
torch.testing.assert_close(fast(images), model(images))

for hooked in (fast.conv1,):  # a hook still sees the convolution alone, before its ReLU
    hooked.register_forward_hook(lambda layer, given, result: print("smallest value:", float(result.min())))
fast(images)

back = kernels.revert(fast)
assert type(back.conv1) is torch.nn.Conv2d
