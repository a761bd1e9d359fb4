"""The one exception a user's mistake raises: the command line prints its text as one line and exits with 1."""


class UserError(ValueError):
    """Says what is wrong, what was given, what is allowed, and the way out, in one line."""
