"""Which calls the CPU path may take by itself: plain tensors, outside every mode that must see torch's operators."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

_is_compiling = torch.compiler.is_compiling
_functorch = torch._C._are_functorch_transforms_active
_dispatch_modes = torch._C._len_torch_dispatch_stack
_function_mode = torch._C._is_torch_function_mode_enabled
_tracing = torch._C._get_tracing_state
_autocast = torch.is_autocast_enabled
_batched = torch._C._functorch.is_legacy_batchedtensor
TYPES = (Tensor, Parameter)
_DTYPES = (torch.float32, torch.bfloat16)


def eager() -> bool:
    """No compiler, tracer, mode, functorch transform, forward-mode differentiation or autocast is at work."""
    return not (
        _is_compiling()
        or _functorch()
        or _dispatch_modes()
        or _function_mode()
        or _tracing() is not None
        or forward_ad._current_level >= 0
        or _autocast("cpu")
    )


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
    return eager() and plain(g) and not _batched(g)
