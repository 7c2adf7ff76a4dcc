"""Errors that the user can correct, and a stop that was asked for. Any other exception is a bug and shows its traceback."""


class UserError(ValueError):
    """Invalid user input. The message names the key, the value and how to correct it."""


class BusyError(UserError):
    """Another process works on the run."""


class LostError(UserError):
    """Something that worked has ended. The log says more."""


class Stopped(SystemExit):
    """The process was asked to end (SIGTERM), and training has written a checkpoint; the same command resumes."""

    def __init__(self, step: int):
        super().__init__(143)  # as of a process that SIGTERM ended
        self.step = step
