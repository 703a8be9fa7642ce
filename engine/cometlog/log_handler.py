"""A ``logging.Handler`` that appends records to a stream: many processes, one log, no lock between them.

>>> import logging.config
>>> handler = {"class": "cometlog.log_handler.LogHandler", "path": directory, "stream": "app:v1:shard:0000"}
>>> loggers = {"app": {"handlers": ["comet"], "level": "INFO"}}
>>> logging.config.dictConfig({"version": 1, "handlers": {"comet": handler}, "loggers": loggers})
>>> logging.getLogger("app").info("started", extra={"worker": 3})

A record is safe from the death of the process as soon as the call that logged it returns. Entries are JSON lines unless a formatter is
set. After a fork the child goes on with a slot of its own.
"""

import json
import logging
import os
import time
from typing import Any

from cometlog.client import open as open_log
from cometlog.config import Config

# What a LogRecord always has; anything else on it came from `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time, level, logger, message, process, what ``extra`` brought, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON; what JSON has no word for is written as its ``str``."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class LogHandler(logging.Handler):
    """Appends each record to ``stream`` of the log at ``path``; opens it with the first record.

    ``config`` and ``write_path`` are those of ``cometlog.open``. What goes wrong with a record goes to ``handleError``, as with every
    handler: the program that logs never sees it.
    """

    def __init__(
        self, path: str | os.PathLike[str], stream: str = "logs:v1:shard:0000", *, config: Config | None = None,
        write_path: str | None = None, level: int | str = logging.NOTSET,
    ) -> None:  # fmt: skip
        super().__init__(level)
        self.stream = stream
        self._client = open_log(path, config, write_path=write_path)
        self._append = self._attach
        self.setFormatter(JsonFormatter())

    def _attach(self, entry: bytes, /) -> int:
        """Stand in for the writer until the first record, so that a handler that logs nothing takes no slot."""
        self._append = self._client.writer(self.stream).append
        return self._append(entry)

    def emit(self, record: logging.LogRecord) -> None:
        """Append the formatted record; a lone surrogate, which UTF-8 has no bytes for, is written as JSON's escape for it."""
        try:
            self._append(self.format(record).encode(errors="backslashreplace"))
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Do nothing: what was appended is in shared memory already. ``sync`` makes it durable."""

    def sync(self) -> None:
        """Make every record so far durable."""
        self._client.sync()

    def close(self) -> None:
        """Leave the log."""
        self._client.close()
        super().close()
