"""A target in memory, for what the loop of a forwarder does by itself: it fails where and when a test says."""

from collections.abc import Callable, Iterable, Mapping

import pytest

from cometlog.errors import TargetError
from cometlog.forward.target import KeepWaiting, Position, Shipment, Target


class FakeTarget(Target):
    """``arrived`` the entries that were confirmed, by stream; ``cannot_take`` the names that ``check`` refuses.

    ``at_finish`` is called before a chunk is confirmed, with what may be asked whether to go on waiting.
    """

    keeps_position = True

    def __init__(self) -> None:
        self.limit = 1 << 30
        self.arrived: dict[str, list[bytes]] = {}
        self.cannot_take: set[str] = set()
        self.checked: list[list[str]] = []
        self.at_finish: Callable[[KeepWaiting], object] = lambda _keep_waiting: None
        self._kept: dict[str, Position] = {}
        self._chunk: list[Shipment] = []

    def keep(self, stream: str, position: Position) -> None:
        """Have a position from before."""
        self._kept[stream] = position

    def check(self, names: Iterable[str]) -> None:
        self.checked.append(list(names))
        for name in self.checked[-1]:
            if name in self.cannot_take:
                raise TargetError(f"there is no {name}")

    def open(self, identity: str, keep_waiting: KeepWaiting) -> None:
        self._chunk.clear()

    def limit_bytes(self, stream: str) -> int:
        return self.limit

    def positions(self, streams: Iterable[str], keep_waiting: KeepWaiting) -> dict[str, Position]:
        return {stream: self._kept[stream] for stream in streams if stream in self._kept}

    def begin(self) -> None:
        self._chunk.clear()

    def ship(self, shipment: Shipment, keep_waiting: KeepWaiting) -> None:
        self._chunk.append(shipment)

    def finish(self, positions: Mapping[str, Position], keep_waiting: KeepWaiting) -> None:
        self.at_finish(keep_waiting)
        for shipment in self._chunk:
            self.arrived.setdefault(shipment.stream, []).extend(shipment.payloads)
        self._kept.update(positions)

    def close(self) -> None:
        self._chunk.clear()


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> FakeTarget:
    """The target of every forwarder that a test makes."""
    fake = FakeTarget()
    monkeypatch.setattr("cometlog.forward.forwarder.open_target", lambda _destination, _options: fake)
    return fake
