"""A set of entry numbers kept as ranges: what was acknowledged ahead of its turn."""

from bisect import bisect_left, bisect_right


class Ranges:
    """Disjoint, sorted, never touching ranges [start, stop)."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def __len__(self) -> int:
        """Return how many ranges there are."""
        return len(self._starts)

    @property
    def first(self) -> int | None:
        """The lowest number in the set, or None."""
        return self._starts[0] if self._starts else None

    def add(self, start: int, stop: int) -> None:
        """Add the numbers ``start`` to ``stop - 1``; some may be there already."""
        if start >= stop:
            return
        left = bisect_left(self._stops, start)
        right = bisect_right(self._starts, stop)
        if left < right:
            start = min(start, self._starts[left])
            stop = max(stop, self._stops[right - 1])
        self._starts[left:right] = [start]
        self._stops[left:right] = [stop]

    def take_from(self, number: int) -> int:
        """Remove what lies below ``number`` or goes on from it without a gap; return the lowest number that is left out."""
        while self._starts and self._starts[0] <= number:
            number = max(number, self._stops[0])
            del self._starts[0], self._stops[0]
        return number

    def clear(self) -> None:
        """Remove everything."""
        self._starts.clear()
        self._stops.clear()
