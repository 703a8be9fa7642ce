from typing import final

from cometlog.kernel.mapping import Mapping

def bucket_index(latency_ns: int) -> int: ...

@final
class LatencySampler:
    def __init__(self, statistics: Mapping) -> None: ...
    def bind(self, statistics: Mapping) -> None: ...
