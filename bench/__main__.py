"""The command line: `python -m bench COMMAND ...`."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence

from bench import commands
from cnn.errors import UserError

EXPECTED = (UserError, OSError, NotImplementedError)


def command_names() -> list[str]:
    """The modules in bench/commands: a command is there because its file is."""
    return sorted(module.name for module in pkgutil.iter_modules(commands.__path__))


def parser() -> argparse.ArgumentParser:
    """Every command's arguments; `args.run` is the function of the chosen one."""
    top = argparse.ArgumentParser(prog="bench", description="Measure the kernels, and show what was measured.")
    subparsers = top.add_subparsers(metavar="COMMAND", required=True)
    for name in command_names():
        module = importlib.import_module(f"bench.commands.{name}")
        command = subparsers.add_parser(
            module.NAME,
            help=module.HELP,
            description=module.HELP,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code, 2 for a mistake of the user, 130 when interrupted."""
    args = parser().parse_args(argv)
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) went away; leave nothing to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except EXPECTED as error:
        print(f"bench: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
