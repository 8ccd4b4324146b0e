"""The errors that bad input to `models` can cause."""


class ModelError(Exception):
    """Bad input; the message is one sentence that names the thing and the fix, fit to be shown to a user."""


class ResumeError(ModelError):
    """Files of an earlier call that this call cannot continue."""
