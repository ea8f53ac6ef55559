"""The error that a script prints as one line, without a traceback."""


class UserError(ValueError):
    """A mistake that the user can fix. The message names the problem, the value and the fix."""
