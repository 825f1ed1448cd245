"""Errors that a user can act on; each carries the exit status of the command line."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit status of the command line."""

    DONE = 0
    """Done, and no check failed."""
    FAILED = 1
    """Failed; what was computed is kept."""
    BAD_INPUT = 2
    """Refused before anything was computed."""
    GUARD = 3
    """Stopped by a guard: non-finite, negative density, explosion."""
    CHECK_FAILED = 4
    """Done, but a check of the result failed (``--no-strict``: 0)."""
    INTERRUPTED = 130
    """Asked to stop; a checkpoint was written."""


class EngineError(Exception):
    """Base of all errors that are part of the interface (exit status 1)."""

    status = Exit.FAILED


class InputError(EngineError):
    """Bad input, refused before anything was computed (exit status 2).

    The message is one line: the file, the key or frame, what was found, what is allowed.
    """

    status = Exit.BAD_INPUT


class MissingFileError(InputError):
    """A file or folder that an input names is not there.

    Attributes:
        name: what was asked for, as it was written.
    """

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


class GuardError(EngineError):
    """A guard stopped the run: explosion, negative density, non-finite (exit status 3).

    Attributes:
        step: the step at which it fired.
        state: the state that was refused, saved with the last good one.
    """

    status = Exit.GUARD

    def __init__(self, message: str, step: int = -1, state: object = None) -> None:
        super().__init__(message)
        self.step, self.state = step, state


class DamagedFileError(EngineError):
    """A file of the run folder or a model is damaged: its hash does not match."""


class Interrupted(EngineError):
    """SIGTERM or Ctrl-C: a checkpoint was written and the run can be resumed (130)."""

    status = Exit.INTERRUPTED
