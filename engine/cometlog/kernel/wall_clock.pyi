from pathlib import Path

CLOCK_SOURCE: Path
STEADY_SOURCES: frozenset[str]

def read_clock_source() -> str: ...
def now_ns() -> int: ...
