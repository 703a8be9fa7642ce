"""Where the project's checkout is: experiments are imported from it and results written to it."""

from __future__ import annotations

import sys
from pathlib import Path

from cometbench.errors import CheckoutNotFoundError

_MARKS = ("experiments/__init__.py", "harness/cometbench/__init__.py")


def find_checkout(start: Path | None = None) -> Path:
    """Return the checkout at or above `start` (the working directory by default) or this package.

    Raises CheckoutNotFoundError naming where it looked.
    """
    starts = [start or Path.cwd(), Path(__file__).resolve().parent]
    for first in starts:
        for directory in (first, *first.parents):
            if all((directory / mark).is_file() for mark in _MARKS):
                return directory
    raise CheckoutNotFoundError(
        f"no checkout at or above {', '.join(map(str, starts))}: none holds {' and '.join(_MARKS)}"
    )


def make_importable(*directories: Path) -> None:
    """Let `import` find the checkout's experiments package, or modules of a user's own."""
    sys.path[:0] = [str(directory) for directory in directories if str(directory) not in sys.path]
