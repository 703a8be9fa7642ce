from collections.abc import Callable
from typing import TypeAlias

from cometlog.kernel.scan import Frames

_Inflate: TypeAlias = Callable[[memoryview, int], bytes]
_Batch: TypeAlias = tuple[int, int, int, int, int, memoryview | None, memoryview]

class DamagedBatchError(ValueError):
    unit: int
    index: int
    def __init__(self, what: str, unit: int, index: int) -> None: ...

def payloads(frames: Frames, inflate: _Inflate) -> list[bytes]: ...
def batches(frames: Frames, inflate: _Inflate) -> list[_Batch]: ...
def numbers(frames: Frames) -> list[int]: ...
def timestamps(frames: Frames) -> list[int]: ...
