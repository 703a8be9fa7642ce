"""The loop of ``Consumer.process``: read, hand over, acknowledge, retry, wait.

A handler that raises is called again with the same batch, after ``retry_delay_s``, twice that, and so on up to 30 s, ``max_retries``
times. Then ``on_error`` decides; without one, ProcessingError ends the loop. Nothing of a batch is acknowledged unless its handler
returned, or ``on_error`` said "skip"; whatever else ends the loop, an interrupt among it, the batch is delivered again next time.

Thread safety: one loop belongs to one thread; ``Sleeper.stop`` is what other threads and signal handlers may use.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cometlog.errors import ConfigurationError, ProcessingError
from cometlog.kernel import layout
from cometlog.names import parse_stream
from cometlog.read_batch import ReadBatch
from cometlog.sleeper import Sleeper

if TYPE_CHECKING:
    from cometlog.consumer import Consumer, Streams

Handler = Callable[[ReadBatch], object]
OnBatch = Callable[[ReadBatch, float], object]
Decision = Literal["skip", "retry", "stop"]
OnError = Callable[[ReadBatch, Exception], Decision | None]

DELAY_S_MAX = 30.0
PAUSE_S_MIN = 0.01
"""The least pause of a stream whose batch failed, whatever the options say."""
SLEEP_S_MIN = 0.001
"""The least sleep where nothing is new, whatever the options say."""
DECISIONS = (None, "skip", "retry", "stop")


@dataclass
class Processing:
    """One call of ``process``.

    ``streams`` a name, a pattern or several, ``shards`` only these numbers of them; ``poll_interval_s`` the longest sleep without a
    look; ``assignment`` (id, total) this worker's part of the shards; ``discovery_interval_s`` how often new
    shards are looked for; ``auto_ack`` a batch is acknowledged when its handler returned; ``on_batch(batch, seconds)`` is told of
    each; ``on_error(batch, error)`` returns "skip" (acknowledge and go on), "stop" (raise ProcessingError), or "retry" (the default:
    leave the stream for a while, twice as long after each time, then deliver again).
    """

    consumer: "Consumer"
    handler: Handler
    streams: "Streams"
    shards: frozenset[int] | None
    batch_size: int
    poll_interval_s: float
    auto_ack: bool
    max_retries: int
    retry_delay_s: float
    assignment: tuple[int, int] | None
    discovery_interval_s: float
    on_error: OnError | None
    on_batch: OnBatch | None
    sleeper: Sleeper
    root: Path
    _names: list[str] = field(default_factory=list)
    _discovery_due_s: float = 0.0
    _paused_until_s: dict[str, float] = field(default_factory=dict)
    _failures: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, low in (("batch_size", 1), ("max_retries", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ConfigurationError(f"{name} is a whole number of at least {low}, got {value!r}")
        for name in ("poll_interval_s", "retry_delay_s", "discovery_interval_s"):
            seconds: Any = getattr(self, name)
            if not isinstance(seconds, (int, float)) or seconds < 0:
                raise ConfigurationError(f"{name.removesuffix('_s')} is seconds, at least 0, got {seconds!r}")

    def run(self) -> None:
        """Process until the sleeper is stopped; leaves the positions checkpointed."""
        try:
            while not self.sleeper.stopped:
                ticket = self.sleeper.ticket()
                self._discover()
                if not self._one_turn():
                    self._sleep(ticket)
        finally:
            self.sleeper.stopped = False
            if not self.consumer.closed:
                self.consumer.checkpoint()

    def _discover(self) -> None:
        now = time.monotonic()
        if now < self._discovery_due_s:
            return
        found = self.consumer.matching(self.streams, self.assignment)
        self._names = [
            name for name in found if self.shards is None or parse_stream(name).shard in self.shards
        ]
        self._discovery_due_s = now + self.discovery_interval_s

    def _one_turn(self) -> bool:
        """Give every stream that is not paused its turn; return whether anything was delivered."""
        delivered = False
        for name in self._names:
            if self.sleeper.stopped:
                break
            if self._paused_until_s.get(name, 0.0) > time.monotonic():
                continue
            batch = self.consumer.read_one(name, self.batch_size)
            if len(batch):
                delivered = True
                self._hand_over(batch)
        self.consumer.checkpoint_when_due()
        return delivered

    def _hand_over(self, batch: ReadBatch) -> None:
        try:
            self._try_to_finish(batch)
        except BaseException:
            if not self.consumer.closed:
                self.consumer.deliver_again(batch.stream)
            raise

    def _try_to_finish(self, batch: ReadBatch) -> None:
        delay_s = self.retry_delay_s
        for attempt in range(self.max_retries + 1):
            if attempt:
                self.consumer.count(batch.stream, layout.STATISTICS_HANDLER_RETRIES)
            started = time.monotonic()
            try:
                self.handler(batch)
            except Exception as error:
                failure = error
            else:
                self._finish(batch, time.monotonic() - started)
                return
            self.consumer.count(batch.stream, layout.STATISTICS_HANDLER_ERRORS)
            if attempt < self.max_retries and self.sleeper.pause(delay_s):
                self.consumer.deliver_again(batch.stream)
                return
            delay_s = min(2 * delay_s, DELAY_S_MAX)
        self._give_up(batch, failure, delay_s)

    def _finish(self, batch: ReadBatch, seconds: float) -> None:
        if self.auto_ack:
            self.consumer.ack(batch)
        self._failures.pop(batch.stream, None)
        if self.on_batch is not None:
            self.on_batch(batch, seconds)

    def _give_up(self, batch: ReadBatch, error: Exception, delay_s: float) -> None:
        decision = self.on_error(batch, error) if self.on_error is not None else "stop"
        if decision not in DECISIONS:
            raise ConfigurationError(f"on_error returns 'skip', 'retry', 'stop' or None, got {decision!r}")
        if decision == "skip":
            self.consumer.ack(batch)
            self._failures.pop(batch.stream, None)
            return
        if decision == "stop":
            raise ProcessingError(
                f"the handler of group {self.consumer.group!r} failed {self.max_retries + 1} times on the batch of {len(batch)} "
                f"entries from {batch.start} of {batch.stream}: {error!r}; nothing of it was acknowledged"
            ) from error
        self.consumer.deliver_again(batch.stream)
        failures = self._failures[batch.stream] = self._failures.get(batch.stream, 0) + 1
        pause_s = max(delay_s, self.poll_interval_s, PAUSE_S_MIN) * 2 ** min(failures - 1, 20)
        self._paused_until_s[batch.stream] = time.monotonic() + min(pause_s, DELAY_S_MAX)

    def _sleep(self, ticket: int) -> None:
        now = time.monotonic()
        waking = [self._paused_until_s.get(name, 0.0) for name in self._names]
        due_s = min([self._discovery_due_s, *(moment for moment in waking if moment > now)])
        awake = [name for name, moment in zip(self._names, waking, strict=True) if moment <= now]
        directories = [parse_stream(name).directory(self.root) for name in awake]
        self.sleeper.sleep(
            directories, ticket, max(SLEEP_S_MIN, min(self.poll_interval_s, due_s - now)),
            lambda: any(self.consumer.has_new(name) for name in awake),
        )  # fmt: skip
