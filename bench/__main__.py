"""The command line: `python -m bench COMMAND ...`."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Sequence

from bench import commands
from cnn.program import Parser, execute
from cnn.program import parser as program_parser


def command_names() -> list[str]:
    """The modules in bench/commands: a command is there because its file is."""
    return sorted(module.name for module in pkgutil.iter_modules(commands.__path__))


def parser() -> Parser:
    """Every command's arguments."""
    description = "Measure the kernels, and show what was measured."
    return program_parser("bench", description, "bench.commands", command_names())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    return execute(parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
