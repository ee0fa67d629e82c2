"""The command line: `python -m cnn COMMAND ...`, also installed as `cnn`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cnn.commands import COMMANDS
from cnn.program import Parser, execute
from cnn.program import parser as program_parser


def parser() -> Parser:
    """Every command's arguments."""
    return program_parser("cnn", "Train a LeNet and see how a CNN reads an image.", "cnn.commands", COMMANDS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    return execute(parser(), argv)


if __name__ == "__main__":
    code = main()
    if "WORLD_SIZE" in os.environ:
        from cnn.learn.distributed import leave

        leave(code)
    sys.exit(code)
