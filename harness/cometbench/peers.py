"""What another system needs here: the packages and programs of section A, and how each is installed.

Standard library only, because measuring processes import it.
"""

from __future__ import annotations

import importlib
import shutil
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from cometbench.checkout import find_checkout
from cometbench.errors import CannotMeasureError


def install_command(what: str) -> str:
    """Return the command that installs `what`, a table of services/install.toml."""
    text = (resources.files("cometbench") / "services" / "install.toml").read_text(encoding="utf-8")
    command: str = tomllib.loads(text)[what]["command"]
    return command


def not_installed(what: str, name: str) -> CannotMeasureError:
    """Return the error for something that is missing; `what` is a table of services/install.toml."""
    return CannotMeasureError(f"{name} is not installed; install it with: {install_command(what)}")


def import_peer(package: str) -> Any:
    """Import the Python package of a peer. Raises CannotMeasureError with the command that installs it."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise not_installed("packages", f"the Python package {package}") from error


def built_directory(name: str) -> Path:
    """Return where the checkout keeps what was built or fetched for a peer."""
    return find_checkout() / "build" / name


def find_program(what: str, program: str, directory: Path | None = None) -> str:
    """Return the path of a program, looked for in `directory` first.

    Raises CannotMeasureError with the command that installs `what`.
    """
    found = (shutil.which(program, path=str(directory)) if directory else None) or shutil.which(program)
    if found is None:
        raise not_installed(what, program)
    return found
