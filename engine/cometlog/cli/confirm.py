"""Asking before something that cannot be undone."""

import sys

from cometlog.cli.output import complain


def is_agreed(question: str) -> bool:
    """Return whether the person at the terminal says yes; without a terminal nobody can."""
    if sys.stdin is None or not sys.stdin.isatty():
        complain("nothing was changed: say --yes, or run it on a terminal")
        return False
    complain(f"{question} [yes/no] ", end="")
    return sys.stdin.readline().strip().lower() == "yes"
