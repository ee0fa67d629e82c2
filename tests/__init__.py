"""Everything that checks the project. Without CUDA, Triton's interpreter runs the kernels; it must be asked for before
`kernels` is first imported, because Triton decides when it decorates a kernel."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
