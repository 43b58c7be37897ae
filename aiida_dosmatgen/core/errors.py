"""The exception for wrong input."""


class ContentError(ValueError):
    """Content that cannot be used: the message is one line that says what is wrong, where, and what to do."""
