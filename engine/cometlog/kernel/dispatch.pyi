from collections.abc import Iterable

from typing_extensions import disjoint_base

from cometlog.write_paths.base import Writer

@disjoint_base
class Dispatch:
    def append(self, stream: str, entries: Iterable[bytes]) -> range: ...
    def remember_writer(self, stream: str, writer: Writer) -> None: ...
    def forget_writers(self) -> None: ...
