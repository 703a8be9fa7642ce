"""The logging handler: dictConfig, JSON lines, errors, several processes, a prefork server."""

import json
import logging
import logging.config
import multiprocessing
import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cometlog
from cometlog.log_handler import LogHandler

STREAM = "app:v1:shard:0003"


@pytest.fixture
def logger(root: Path) -> Iterator[logging.Logger]:
    """A logger with one handler, configured the way programs do."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {
                "comet": {
                    "class": "cometlog.log_handler.LogHandler",
                    "path": str(root),
                    "stream": STREAM,
                    "level": "INFO",
                }
            },
            "loggers": {"test.comet": {"handlers": ["comet"], "level": "DEBUG", "propagate": False}},
        }
    )
    found = logging.getLogger("test.comet")
    yield found
    for handler in list(found.handlers):
        found.removeHandler(handler)
        handler.close()


def lines(root: Path) -> list[dict[str, Any]]:
    with cometlog.open(root, read_only=True) as client:
        return [json.loads(entry.data) for entry in client.scan(STREAM)]


def test_a_record_is_a_line_of_json_with_its_extra_and_its_traceback(
    root: Path, logger: logging.Logger
) -> None:
    logger.debug("below the handler's level")
    logger.info("hello %s", "world", extra={"request": 7, "odd": {1}})
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("it failed")
    first, second = lines(root)
    assert first["message"] == "hello world"
    assert (first["level"], first["logger"], first["process"]) == ("INFO", "test.comet", os.getpid())
    assert (first["request"], first["odd"]) == (7, "{1}")
    assert first["time"].endswith("Z")
    assert "ValueError: broken" in second["traceback"]


def test_a_formatter_of_ones_own_replaces_json(root: Path, logger: logging.Logger) -> None:
    logger.handlers[0].setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.warning("plain ü")
    with cometlog.open(root, read_only=True) as client:
        assert [entry.data for entry in client.scan(STREAM)] == ["WARNING plain ü".encode()]


def test_what_goes_wrong_goes_to_handle_error_and_not_to_the_program(
    root: Path, logger: logging.Logger
) -> None:
    handler = logger.handlers[0]
    failed: list[logging.LogRecord] = []
    handler.handleError = failed.append  # type: ignore[method-assign]
    handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("not a number",)}))
    handler.close()
    logger.info("after the close")
    assert [record.msg for record in failed] == ["%d", "after the close"]


def test_what_utf_8_has_no_bytes_for_is_logged_as_an_escape(root: Path, logger: logging.Logger) -> None:
    name = os.fsdecode(b"file-\xff")
    (handler,) = [
        one for one in logger.handlers if isinstance(one, LogHandler)
    ]  # asked alone: what pytest captures goes from process to process as UTF-8
    handler.handle(logger.makeRecord(logger.name, logging.INFO, __file__, 1, "opened %s", (name,), None))
    assert [line["message"] for line in lines(root)] == [f"opened {name}"]


def test_a_handler_that_logs_nothing_takes_no_slot(root: Path) -> None:
    handler = LogHandler(root, STREAM)
    assert not (root / "app").exists()
    handler.close()


def log_in_child(logger: logging.Logger, child: int) -> None:
    for number in range(200):
        logger.info("entry", extra={"child": child, "number": number})


def test_a_prefork_server_logs_from_all_its_processes_without_loss(
    root: Path, logger: logging.Logger
) -> None:
    logger.info("parent", extra={"child": -1, "number": 0})
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=log_in_child, args=(logger, child)) for child in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    logger.info("parent", extra={"child": -1, "number": 1})
    found = [(line["child"], line["number"]) for line in lines(root)]
    assert sorted(found) == [(-1, 0), (-1, 1)] + [
        (child, number) for child in range(4) for number in range(200)
    ]
    for child in range(4):
        assert [number for whose, number in found if whose == child] == list(range(200))


def log_in_process_of_its_own(root: str, owner: int, barrier: Any) -> None:
    handler = {"class": "cometlog.log_handler.LogHandler", "path": root, "stream": STREAM}
    loggers = {"test.own": {"handlers": ["comet"], "level": "INFO"}}
    logging.config.dictConfig({"version": 1, "handlers": {"comet": handler}, "loggers": loggers})
    barrier.wait()
    for number in range(200):
        logging.getLogger("test.own").info("entry", extra={"child": owner, "number": number})
    logging.shutdown()


def test_processes_that_configure_the_same_handler_each_log_into_one_stream(root: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    processes = [
        context.Process(target=log_in_process_of_its_own, args=(str(root), owner, barrier))
        for owner in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    found = [(line["child"], line["number"]) for line in lines(root)]
    for owner in range(3):
        assert [number for whose, number in found if whose == owner] == list(range(200))
    assert len(found) == 600


def test_a_client_pickles_as_its_path_and_configuration(root: Path) -> None:
    config = cometlog.Config.high_compression()
    with cometlog.open(root, config, write_path="sync") as client:
        client.append(STREAM, [b"1"])
        copy = pickle.loads(pickle.dumps(client))
        assert (copy.path, copy.config, copy.write_path, copy.read_only) == (
            client.path,
            config,
            "sync",
            False,
        )
        assert copy.append(STREAM, [b"2"]) == range(1, 2)
        copy.close()
    with cometlog.open(root, read_only=True) as reader:
        copy = pickle.loads(pickle.dumps(reader))
        assert copy.read_only
        assert copy.entry_count(STREAM) == 2
        copy.close()


def test_errors_come_back_from_worker_processes_as_they_were_raised() -> None:
    error = cometlog.CorruptionError("wrong", file="f", offset=3, stream=STREAM, entry=4)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))
    for name in cometlog.__all__:
        kind = getattr(cometlog, name)
        if isinstance(kind, type) and issubclass(kind, cometlog.CometlogError) and kind is not type(error):
            assert repr(pickle.loads(pickle.dumps(kind("what", 7)))) == repr(kind("what", 7))


def test_a_child_reads_although_a_thread_of_its_parent_was_reading_when_it_forked(root: Path) -> None:
    with cometlog.open(root) as client:
        client.append(STREAM, [b"parent"])
        lock = client._reader(STREAM)._lock
        with lock:
            child = os.fork()
            if child == 0:
                signal.alarm(60)  # a child that waits for the lock is ended, and fails the test
                found = [entry.data for entry in client.scan(STREAM)]
                os._exit(0 if found == [b"parent"] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def append_in_spawned_child(client: cometlog.Client) -> None:
    client.append(STREAM, [b"child"])
    client.close()


def test_a_client_is_handed_to_a_spawned_process(root: Path) -> None:
    with cometlog.open(root) as client:
        client.append(STREAM, [b"parent"])
        child = multiprocessing.get_context("spawn").Process(target=append_in_spawned_child, args=(client,))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        assert [entry.data for entry in client.scan(STREAM)] == [b"parent", b"child"]
