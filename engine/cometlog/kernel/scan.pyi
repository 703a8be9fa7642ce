from typing import Final, Self, final

from typing_extensions import Buffer

from cometlog.kernel.mapping import Mapping

NO_UNIT: Final[int]
STEP_DATA: Final[int]
STEP_PAD: Final[int]
STOP_TAIL: Final[int]
STOP_BLOCKED: Final[int]
STOP_SEAL: Final[int]
STOP_WINDOW: Final[int]
STOP_FULL: Final[int]
STOP_CORRUPT: Final[int]
WRONG_NOTHING: Final[int]
WRONG_KIND: Final[int]
WRONG_LENGTH: Final[int]
WRONG_CHECKSUM: Final[int]
WRONG_META: Final[int]
WRONG_INDEX: Final[int]
WRONG_TAIL: Final[int]
WRONG_TEXTS: dict[int, str]

@final
class Walk:
    @property
    def stop(self) -> int: ...
    @property
    def unit(self) -> int: ...
    @property
    def next_index(self) -> int: ...
    @property
    def live_entries(self) -> int: ...
    @property
    def data_frames(self) -> int: ...
    @property
    def needed_units(self) -> int: ...
    @property
    def wrong(self) -> int: ...
    def __new__(
        cls, mapping: Mapping, uuid: Buffer, unit: int = 0, next_index: int = 0, live_entries: int = 0
    ) -> Self: ...
    def skip_to(self, unit: int) -> None: ...
    def advance(self, tail: int, readable_units: int, verify: bool = True) -> int: ...
    def collect(
        self,
        frames: Frames,
        tail: int,
        readable_units: int,
        first_index: int,
        entries_max: int,
        verified_unit: int = ...,
    ) -> int: ...

@final
class Frames:
    @property
    def base(self) -> int: ...
    @property
    def entries(self) -> int: ...
    def __new__(cls, mapping: Mapping, base: int) -> Self: ...
    def __len__(self) -> int: ...
    @property
    def last_unit(self) -> int: ...
    @property
    def last_index(self) -> int: ...
    @property
    def start_number(self) -> int: ...
    @property
    def stop_number(self) -> int: ...
    def keep_first(self, entries: int) -> None: ...
    def drop_first(self, entries: int) -> None: ...
