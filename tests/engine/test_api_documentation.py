"""The reference from docstrings: every public name says what it is, names errors that exist, and its examples run."""

import builtins
import doctest
import importlib
import inspect
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import cometlog

MODULES = (
    "cometlog",
    "cometlog.log_handler",
    "cometlog.pytest_plugin",
    "cometlog.processing",
    "cometlog.config",
)
WITH_EXAMPLES = ("cometlog", "cometlog.log_handler")


def public_names() -> Iterator[tuple[str, object]]:
    """Yield the public names of the package and what stands in its classes that is not inherited from elsewhere."""
    for module in map(importlib.import_module, MODULES):
        listed = getattr(module, "__all__", None)
        for name, value in vars(module).items():
            own = name in listed if listed else getattr(value, "__module__", "") == module.__name__
            if name.startswith("_") or not own or not (inspect.isclass(value) or inspect.isroutine(value)):
                continue
            yield f"{module.__name__}.{name}", value
            for attribute, member in vars(value).items() if inspect.isclass(value) else ():
                if not attribute.startswith("_") and (
                    inspect.isroutine(member) or isinstance(member, property)
                ):
                    yield f"{module.__name__}.{name}.{attribute}", member


def test_every_public_name_and_method_is_documented() -> None:
    names = dict(public_names())
    assert {"cometlog.Client.append", "cometlog.Consumer.process", "cometlog.ReadBatch.to_arrow"} <= set(
        names
    ) | {
        "cometlog.Client.append"  # of the kernel's dispatch, from which the client inherits
    }
    silent = [name for name, value in names.items() if not (inspect.getdoc(value) or "").strip()]
    assert silent == []
    assert inspect.getdoc(cometlog.Client.append)


def test_errors_named_in_docstrings_exist() -> None:
    known = set(cometlog.__all__) | set(dir(builtins)) | {"DamagedBatchError", "TimeoutError"}
    named = {
        (name, error)
        for name, value in public_names()
        for error in re.findall(r"\b[A-Z]\w*Error\b", inspect.getdoc(value) or "")
    }
    assert len(named) > 20
    assert [(name, error) for name, error in named if error not in known] == []


@pytest.mark.parametrize(
    ("call", "errors"),
    [
        (cometlog.open, ["ConfigurationError", "NotALogError", "NewerFormatError", "OSError"]),
        (cometlog.Client.append, ["EntryTypeError", "BatchTooLargeError"]),
        (cometlog.Client.writer, ["StreamNameError", "ReadOnlyError", "WritePathConflictError"]),
        (cometlog.Client.read, ["EntryNotFoundError", "CorruptionError"]),
        (cometlog.Client.entry_at_time, ["TypeError"]),
        (cometlog.Client.sync, ["SyncError", "StalledWriterError"]),
        (cometlog.Client.consumer, ["GroupNameError", "ReadOnlyError"]),
        (cometlog.Client.train_dictionary, ["DictionaryError"]),
        (cometlog.Consumer.read, ["StreamNameError", "EntryNotFoundError", "CorruptionError"]),
        (cometlog.Consumer.ack, ["EntryNotFoundError", "TypeError"]),
        (cometlog.Consumer.process, ["ProcessingError", "ConfigurationError"]),
        (cometlog.Consumer.reset, ["EntryNotFoundError"]),
        (cometlog.Batcher.add, ["ClosedError", "BatcherFullError"]),
        (cometlog.Batcher.flush, ["BatcherError"]),
    ],
)
def test_a_call_says_which_errors_it_raises(call: object, errors: list[str]) -> None:
    text = inspect.getdoc(call) or ""
    assert [error for error in errors if error not in text] == []


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (cometlog.Entry, "ns since 1970"),
        (cometlog.Client.entry_at_time, "ns since 1970"),
        (cometlog.Client.stalled_writers, "seconds"),
        (cometlog.Consumer.batches, "seconds"),
        (cometlog.ReadBatch.numbers_array, "shape (entries,)"),
        (cometlog.ReadBatch.offsets_array, "shape (entries + 1,)"),
        (cometlog.ReadBatch.timestamps_array, "datetime64[ns], shape (entries,)"),
        (cometlog.ReadBatch.timestamps_ns, "ns since 1970"),
    ],
)
def test_a_call_says_shapes_and_units(call: object, words: str) -> None:
    assert words in (inspect.getdoc(call) or "")


def test_fields_of_the_configuration_are_documented_with_their_default() -> None:
    groups = [kind for name, kind in vars(cometlog).items() if name.endswith("Config") and name != "Config"]
    assert len(groups) == 5
    for group in groups:
        text = inspect.getdoc(group) or ""
        for field in group.__dataclass_fields__:
            assert f"``{field}``" in text, f"{group.__name__}.{field}"
        assert text.lower().count("default") >= 1


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_in_docstrings_run(name: str, tmp_path: Path) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"directory": str(tmp_path / "log")}, raise_on_error=False)
    for handler in list(logging.getLogger("app").handlers):
        logging.getLogger("app").removeHandler(handler)
        handler.close()
    assert result.failed == 0
    assert result.attempted > 1


def test_no_module_has_examples_that_are_not_run() -> None:
    package = Path(cometlog.__file__).parent
    found = {
        file.stem for file in package.rglob("*.py") if re.search(r"^\s*>>> ", file.read_text(), re.MULTILINE)
    }
    assert found == {"__init__", "log_handler"}
