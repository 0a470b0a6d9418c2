"""The one exception for input that a reader can mend."""


class InputError(ValueError):
    """Say in one line what is wrong with the input and what to do about it.

    The command line prints the line and exits with status 2; notebooks show it as the last line of the traceback.
    """
