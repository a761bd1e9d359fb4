"""What goes wrong: the one exception a user's mistake raises, printed as one line; and other errors on one line."""


class UserError(ValueError):
    """Says what is wrong, what was given, what is allowed, and the way out, in one line."""


class BadInput(UserError):
    """A file of an input is damaged or is not what it should be: it is named, and the rest of the input is read."""


def first_line(error: Exception) -> str:
    """The first line of what a library's error says, or its kind where it says nothing."""
    return (str(error) or type(error).__name__).splitlines()[0]
