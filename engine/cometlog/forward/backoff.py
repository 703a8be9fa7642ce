"""How long to wait before a target is tried again: twice as long each time, up to a bound, and never in step with others."""

import random

FIRST_S = 0.1
MAX_S = 15.0


class Backoff:
    """``next_s`` gives the next pause in seconds; ``reset`` begins anew after a success."""

    def __init__(self) -> None:
        self._bound_s = FIRST_S

    def next_s(self) -> float:
        """Return a pause from half of the present bound to all of it, and double the bound."""
        pause_s = random.uniform(self._bound_s / 2, self._bound_s)
        self._bound_s = min(2 * self._bound_s, MAX_S)
        return pause_s

    def reset(self) -> None:
        """Begin with a short pause again."""
        self._bound_s = FIRST_S
