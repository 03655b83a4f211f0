"""When things are due: a counter, and conditions over anything that only grows.

The conditions take the time as an argument and keep no clock of their own, so the same class
serves agent steps, updates or seconds; the unit is whatever the caller passes. Everything that
remembers has `state()` and `restore()`, whose values JSON can hold.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

Number = int | float


@functools.total_ordering
class Counter:
    """An integer that only grows and that several parts can share.

    Args:
      initial: The value to start from, in the unit of the caller (agent steps, updates, ...).
    """

    def __init__(self, initial: int = 0) -> None:
        self._value = int(initial)

    @property
    def value(self) -> int:
        """The count so far."""
        return self._value

    def increment(self, amount: int = 1) -> int:
        """Adds an amount and returns the new value.

        Raises:
          ValueError: If the amount is negative.
        """
        if amount < 0:
            raise ValueError(f"a counter can't go back by {amount}")
        self._value += int(amount)
        return self._value

    def state(self) -> dict[str, Any]:
        """Returns what `restore` needs."""
        return {"value": self._value}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from a saved state."""
        self._value = int(state["value"])

    def __int__(self) -> int:
        return self._value

    __index__ = __int__

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (Counter, int, float)):
            return self._value == (other._value if isinstance(other, Counter) else other)
        return NotImplemented

    def __lt__(self, other: object) -> bool:
        if isinstance(other, (Counter, int, float)):
            return self._value < (other._value if isinstance(other, Counter) else other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # It changes, so it can't be a key.

    def __repr__(self) -> str:
        return f"Counter({self._value})"


class Every:
    """Due at the first call and then each time another multiple of the interval has passed.

    The multiples are counted from the time of the first call, which never moves: a trigger that
    comes late does not delay the ones after it, and a long gap gives one trigger, not a burst.
    Where the work must keep pace with time, as updates with agent steps, `count` tells how often
    it was due.

    Args:
      interval: Distance between triggers in the unit of the times passed in; 0 is never due.

    Raises:
      ValueError: If the interval is negative.
    """

    def __init__(self, interval: Number) -> None:
        if not interval >= 0:
            raise ValueError(f"the interval must be at least 0, not {interval}")
        self._interval = _exact(interval)
        self._anchor: Number | None = None
        self._last: Number = 0
        self._next: Number = 0  # When it is due again, to answer most calls by a comparison.

    def __call__(self, time: Number) -> bool:
        """Returns whether the thing is due at this time; asking uses the trigger up."""
        return self.count(time) > 0

    def count(self, time: Number) -> int:
        """Returns how many times the thing became due since the last call; 1 at the first call.

        Args:
          time: The present, in the unit of the interval. A time before the last one gives 0.
        """
        if self._last <= time < self._next:
            self._last = time
            return 0
        time = _exact(time)
        if not self._interval:
            return 0
        if self._anchor is None:
            self._anchor = self._last = time
            return 1
        if time <= self._last:
            return 0
        before = (self._last - self._anchor) // self._interval
        now = (time - self._anchor) // self._interval
        self._last, self._next = time, self._anchor + (now + 1) * self._interval
        return int(now - before)

    def state(self) -> dict[str, Any]:
        """Returns what `restore` needs; the interval is not part of it."""
        return {"anchor": self._anchor, "last": _exact(self._last)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from a saved state, also with another interval than the saved one had."""
        self._anchor, self._last = state["anchor"], state["last"]
        self._next = self._last  # Of another interval, perhaps.


class Until:
    """True while the end has not been reached.

    Args:
      end: The first time, in the unit of the times passed in, that is too late; with 0 or less
        every time is.
    """

    def __init__(self, end: Number) -> None:
        self._end = end

    def __call__(self, time: Number) -> bool:
        """Returns whether the time is before the end."""
        return time < self._end


class Once:
    """True at the first call only."""

    def __init__(self) -> None:
        self._done = False

    def __call__(self) -> bool:
        """Returns whether this is the first call."""
        first, self._done = not self._done, True
        return first

    def state(self) -> dict[str, Any]:
        """Returns what `restore` needs."""
        return {"done": self._done}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from a saved state."""
        self._done = bool(state["done"])


def _exact(number: Number) -> Number:
    """Returns whole numbers as int, so that division is exact and JSON holds the result."""
    return int(number) if number == number // 1 else float(number)
