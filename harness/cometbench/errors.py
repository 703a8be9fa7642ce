"""The harness's own exceptions: one root, and messages that carry the offending value and the limit."""

from __future__ import annotations


class CometbenchError(Exception):
    """Root of everything the harness raises on purpose."""


class UsageError(CometbenchError):
    """The user asked for something that does not exist; the message names it and what exists."""


class CheckoutNotFoundError(CometbenchError):
    """Experiments and results live in a checkout of the project, and none was found."""


class SubjectError(CometbenchError):
    """A subject broke its contract or could not be loaded; the message names it."""


class CannotMeasureError(CometbenchError):
    """Nothing can be measured on this machine; the message says why, and what to install or allow."""


class WriterLostError(CometbenchError):
    """A writer process of a multi-process benchmark ended without an answer."""


def unknown(kind: str, given: str, allowed: list[str]) -> UsageError:
    """Return the error for a name outside a fixed list, with the name and the list."""
    return UsageError(f"unknown {kind} {given!r}; allowed: {', '.join(allowed)}")
