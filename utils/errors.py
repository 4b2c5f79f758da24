"""Mistakes that a user can mend: printed as one sentence, while every other error keeps its traceback."""


class UserError(ValueError):
    """A flag, file or dataset that cannot be used. The message names it and says what would be accepted."""


class MissingFile(UserError, FileNotFoundError):
    """A file or folder that is not there."""
