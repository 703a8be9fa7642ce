"""Execute the notebooks, and compare what they print with what is committed.

`python -m cometbench.notebooks` executes every notebook of the checkout and reports those whose tables differ from the committed ones;
`--write` stores the new outputs. Figures are not compared: they are drawn from the tables.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import nbformat
from nbclient import NotebookClient

from cometbench.checkout import find_checkout
from cometbench.errors import CometbenchError

_CELL_SECONDS_MAX = 120
_EXIT_DIFFERS = 1


def notebooks_of(checkout: Path) -> list[Path]:
    """Return the notebooks of a checkout, by name."""
    return sorted((checkout / "notebooks").glob("*.ipynb"))


def execute(notebook: Path) -> nbformat.NotebookNode:
    """Return a notebook with the outputs of running it now, in its own folder.

    Raises CometbenchError naming the notebook and the error of the cell that failed.
    """
    book: nbformat.NotebookNode = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        book, timeout=_CELL_SECONDS_MAX, resources={"metadata": {"path": str(notebook.parent)}}
    )
    try:
        client.execute()
    except Exception as error:  # nbclient lets through whatever kernel and messages raise
        raise CometbenchError(f"{notebook.name}: {error}") from error
    for cell in book.cells:
        cell.get("metadata", {}).pop("execution", None)  # when it ran, which differs each time
    return book


def tables_of(book: nbformat.NotebookNode) -> list[str]:
    """Return the text of every output that is no figure, in order."""
    texts = []
    for cell in book.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" not in data:
                texts.append(str(output.get("text") or data.get("text/html") or data.get("text/plain", "")))
    return texts


@click.command()
@click.option("--write", is_flag=True, help="Store the new outputs in the notebooks.")
def main(write: bool) -> None:
    """Execute every notebook; exit code 1 where its tables differ from the committed ones."""
    differing = []
    for notebook in notebooks_of(find_checkout()):
        before, book = nbformat.read(notebook, as_version=4), execute(notebook)
        same = tables_of(before) == tables_of(book)
        click.echo(
            f"{notebook.name}: {len(tables_of(book))} tables, {'as committed' if same else 'different'}"
        )
        if write:
            nbformat.write(book, notebook)
        elif not same:
            differing.append(notebook.name)
    if differing:
        click.echo(f"{', '.join(differing)} differ; run: nox -s notebooks -- --write", err=True)
        sys.exit(_EXIT_DIFFERS)


if __name__ == "__main__":
    main()
