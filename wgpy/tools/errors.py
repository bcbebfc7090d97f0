"""The one exception of the tools: what went wrong, said in one line."""


class ToolError(Exception):
    """A command that failed. The message is one line: where, what, and what to do."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class UsageError(ToolError):
    """Arguments that a command does not take; its usage line is shown beside the message."""
