from typing import Self, final

from typing_extensions import Buffer

from cometlog.kernel.mapping import Mapping

@final
class IndexWriter:
    def __new__(
        cls,
        mapping: Mapping,
        uuid: Buffer,
        interval: int,
        directory_fd: int,
        file_name: str,
        mode: int = 0o600,
        statistics: Mapping | None = None,
    ) -> Self: ...
    @property
    def covered_units(self) -> int: ...
    @property
    def covered_entries(self) -> int: ...
    @property
    def covered_live(self) -> int: ...
    def write_checkpoint(self) -> int: ...
    def sync(self) -> None: ...
    def close(self) -> None: ...
