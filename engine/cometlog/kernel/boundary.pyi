from typing import TypeAlias

from typing_extensions import Buffer

from cometlog.kernel.scan import Walk

_Boundary: TypeAlias = tuple[int, int, int, int]

def find_boundaries(
    walk: Walk, tail: int, readable_units: int, interval: int, next_entry: int
) -> tuple[int, list[_Boundary], int]: ...
def decode_records(records: Buffer, uuid: Buffer, first_number: int = 0) -> list[_Boundary]: ...
