"""A converted network trains as the one it was made from, also in mixed precision and compiled."""

import torch

import kernels

torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(8 * 9, 2)
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
kernels.convert(model, inplace=True)  # in place: the optimizer made before goes on working

images = torch.randn(64, 1, 8, 8)
labels = (images.mean((1, 2, 3)) > 0).long()
losses = []
for _ in range(30):
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = torch.nn.functional.cross_entropy(model(images).float(), labels)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")
assert losses[-1] < losses[0]

compiled = torch.compile(model, backend="aot_eager", fullgraph=True)  # the default backend needs a C++ compiler
torch.testing.assert_close(compiled(images), model(images))
