"""The commands of `python -m cnn`, one module each.

A command module has NAME, HELP, add_arguments(parser) and run(args) -> exit code. It imports torch and other heavy
libraries inside run, so that `python -m cnn --help` answers at once.
"""

COMMANDS: tuple[str, ...] = (
    "train",
    "evaluate",
    "predict",
    "demo",
    "explain",
    "pixels",
    "filter",
    "conv",
    "pool",
    "featuremaps",
    "summary",
    "compare",
)
