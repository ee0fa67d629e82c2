"""What this process and its devices can do."""

from __future__ import annotations

import os

INTERPRET = os.environ.get("TRITON_INTERPRET", "0") not in ("", "0")
"""Whether Triton's interpreter runs the kernels (read once: Triton decides when a kernel is decorated)."""
