"""The errors a user can fix. Everything else is a bug and shows its traceback."""


class UserError(ValueError):
    """Something the user gave or asked for cannot work. The message names it, the value found and a way out."""
