"""A command line made of command modules: `python -m cnn` and `python -m bench` are two of them.

A command module has NAME, HELP, add_arguments(parser) and run(args) -> exit code, and imports heavy libraries inside
run, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from cnn.errors import UserError

EXPECTED = (UserError, OSError, NotImplementedError)
EXTRA = ("sklearn", "scipy", "matplotlib", "tqdm", "PIL")


class Parser(argparse.ArgumentParser):
    """argparse, whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        """Exit code 2, the complaint and where to read more on one line of stderr."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser(program: str, description: str, package: str, names: Iterable[str]) -> Parser:
    """Every command's arguments; `args.run` is the function of the chosen one."""
    top = Parser(prog=program, description=description)
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for name in names:
        module = importlib.import_module(f"{package}.{name}")
        command = commands.add_parser(
            module.NAME,
            help=module.HELP,
            description=module.HELP,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return top


def execute(top: Parser, argv: Sequence[str] | None) -> int:
    """Run one command; its exit code, 2 for a mistake of the user, 130 when interrupted."""
    args = top.parse_args(argv)
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        print(f"{top.prog}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) went away; leave nothing to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in EXTRA:
            raise
        print(f"{top.prog}: {error.name} is not installed; pip install 'triton-cnn[cnn]'", file=sys.stderr)
        return 2
    except EXPECTED as error:
        print(f"{top.prog}: {one_line(error)}", file=sys.stderr)
        return 2


def one_line(error: BaseException) -> str:
    """The error's message without line breaks; an operating system error as `file: reason`."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
