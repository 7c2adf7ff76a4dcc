"""Errors that the user can correct. Any other exception is a bug and shows its traceback."""


class UserError(ValueError):
    """Invalid user input. The message names the key, the value and how to correct it."""
