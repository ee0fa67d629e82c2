"""Which calls the CPU path may take by itself: plain tensors, outside every mode that must see torch's operators."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter

from kernels.common.signature import is_eager

_batched = torch._C._functorch.is_legacy_batchedtensor
TYPES = (Tensor, Parameter)
_DTYPES = (torch.float32, torch.bfloat16)


def plain(tensor: Tensor) -> bool:
    """A dense float32 or bfloat16 CPU tensor whose memory holds its values, of no subclass."""
    return (
        type(tensor) in TYPES
        and tensor.is_cpu
        and tensor.dtype in _DTYPES
        and tensor.layout is torch.strided
        and not tensor.is_neg()
    )


def plain_gradient(g: Tensor) -> bool:
    """The same of a gradient in a backward pass, which torch.autograd.grad(is_grads_batched=True) batches unmarked."""
    return is_eager() and plain(g) and not _batched(g)
