"""The commands of `python -m bench`, one module each, found by their presence in this folder.

A command module has NAME, HELP, add_arguments(parser) and run(args) -> exit code. It imports torch and other heavy
libraries inside run, so that `python -m bench --help` answers at once.
"""
