"""The one exception that means: the person, not the program, has to change something."""


class UserError(ValueError):
    """A mistake that the message explains in one line: what was found, what was expected, the way out.

    The command line prints it on stderr and ends with exit code 2, without a traceback.
    """
