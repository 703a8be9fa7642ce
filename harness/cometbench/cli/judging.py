"""Commands of the judging side register here."""

from __future__ import annotations

import click


def register(group: click.Group) -> None:
    """Add this module's commands."""
