"""What can go wrong, and the exit code that the command line gives it."""


class DeconvsegError(Exception):
    """The work failed: one line that says what was found, where, and what to do next."""

    exit_code = 1


class InputError(DeconvsegError, ValueError):
    """Wrong usage or bad input: a file, a value or a shape that the caller can mend."""

    exit_code = 2


class InterruptionError(DeconvsegError):
    """The user stopped the work; what was finished is kept."""

    exit_code = 130
