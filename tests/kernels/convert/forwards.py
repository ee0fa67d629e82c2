"""Forwards in the ways people write them: those whose Conv -> ReLU (-> Pool) is one kernel, those where it is not."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Base(nn.Module):
    """Two convolutions, two ReLUs and a pool; subclasses differ in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(2)
        self.many = nn.ModuleList([nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)])
        self.named = nn.ModuleDict({"a": nn.Conv2d(3, 3, 1)})
        self.seq = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Sequential(nn.Conv2d(3, 3, 1)))
        self.flag, self.size = False, 2


class Nested(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.pool(F.relu(self.conv(x)))


class Statements(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = self.relu(x)
        x = F.avg_pool2d(x, kernel_size=self.size)
        y = self.other(x)
        z = torch.relu(y)
        return z  # noqa: RET504


class Methods(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        x = self.other(x)
        x.relu_()
        x = self.conv(x)
        return F.relu_(x)


class PoolFirst(Base):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.max_pool2d(self.conv(x), 2))


class SharedReLU(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.other(self.relu(self.conv(x)))) + self.relu(x)


class Loop(Base):
    def forward(self, x: Tensor) -> Tensor:
        for conv in self.many:
            x = F.relu(conv(x))
        x = F.relu(self.many[0](x))
        return F.relu(self.named["a"](x))


class Branch(Base):
    def forward(self, x: Tensor) -> Tensor:
        if self.training or self.flag:
            return F.relu(self.conv(x))
        return self.conv(x)


class Containers(Base):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.seq(x))


class Helper(Base):
    def __scale(self, x: Tensor) -> Tensor:
        return 2 * F.relu(self.conv(x))

    def forward(self, x: Tensor, *, twice: bool = True) -> Tensor:
        x = self.__scale(x)
        return self.__scale(x) if twice else x


class Inherited(Helper):
    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        return F.relu(self.other(super().forward(x, **kwargs)))


class Comprehension(Base):
    def forward(self, x: Tensor) -> Tensor:
        maps = [F.relu(conv(x)) for conv in self.many]
        return torch.cat([*maps, (lambda y: F.relu(self.conv(y)))(x)])


FUSED = {
    Nested: ["relu+max"],
    Statements: ["relu+avg", "relu"],
    Methods: ["relu", "relu", "relu"],
    PoolFirst: ["relu+max"],
    SharedReLU: ["relu", "relu"],
    Loop: ["relu"] * 4,
    Branch: ["relu"],
    Containers: ["relu", "relu"],
    Helper: ["relu", "relu"],
    Inherited: ["relu", "relu", "relu"],
    Comprehension: ["relu", "relu"],
}


class UsedTwice(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        z = F.relu(y)
        return z + y


class UsedAfter(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y += 1
        z = F.relu(y)
        y -= 1
        return z + y


class Kept(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.conv(x)
        return F.relu(self.kept)


class Handler(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = x
        try:
            y = self.conv(x)
            y = F.relu(y, *[True] * 9)
        except TypeError:
            return y
        return y


class Captured(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)

        def later() -> Tensor:
            return y

        z = F.relu(y)
        return z + later()


class Locals(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y = F.relu(y)
        assert "y" in locals()
        return y


class Normed(Base):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.dropout(self.conv(x), 0.5, self.training))


class Decorated(Base):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))


class Indices(Base):
    def forward(self, x: Tensor) -> Tensor:
        y, i = F.max_pool2d(F.relu(self.conv(x)), 2, return_indices=True)
        return F.max_unpool2d(y, i, 2)


APART: list[type[Base]] = [UsedTwice, UsedAfter, Kept, Handler, Captured, Locals, Normed, Decorated]
