"""Which windows of a replay may be drawn: arithmetic on row indices, without any data.

Rows of a stream are numbered from 0 for ever. A *stretch* is a range of consecutive rows that are
all loaded: normally one a stream, more only where a damaged file left a gap. Windows lie inside one
stretch. Episodes follow each other in a stretch without gaps, so their starts say everything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def start_choices(steps: int, length: int, prioritize_ends: bool) -> int:
    """Number of equally likely values to draw for `window_start` in an episode of ``steps`` rows.

    Without ``prioritize_ends`` each of the ``steps - length + 1`` windows inside the episode is
    equally likely. With it ``length`` more values all mean the last window, which makes the end of
    an episode, where the rewards of many tasks are, as likely to be seen as its middle (Hafner et
    al., 2021, section 2.1).
    """
    inside = max(steps - length + 1, 1)
    return inside + length if prioritize_ends and steps >= length else inside


def window_start(value: int, begin: int, stop: int, limit: int, length: int) -> int:
    """First row of the window for a drawn ``value``, in the episode of rows ``[begin, stop)``.

    An episode of at least ``length`` rows holds the whole window: it starts at
    ``begin + min(value, stop - begin - length)``. In a shorter one the window starts with the
    episode and continues into those that followed it, so every row of a short episode is in every
    window drawn for it. Where fewer than ``length`` rows follow before ``limit``, the window is
    shifted back to end there.
    """
    last = max(stop - begin - length, 0)
    return min(begin + min(value, last), limit - length)


class Stretch:
    """Consecutive rows ``[start, end)`` of a stream; the episode ``[closed, end)`` still runs."""

    def __init__(self, start: int) -> None:
        self.start = self.closed = self.end = start
        self._starts = np.empty(16, np.int64)
        self._head = self._tail = 0

    @property
    def running(self) -> bool:
        """Whether the last episode has not finished."""
        return self.closed < self.end

    @property
    def starts(self) -> np.ndarray:
        """First rows of all loaded episodes, ``(episodes,)`` int64, the running one included."""
        return self._starts[self._head : self._tail]

    def push(self, first: bool, last: bool) -> None:
        """Appends one row, the first or last of its episode or neither.

        With ``first``, an episode still running counts as finished.
        """
        if first or not len(self.starts):
            self.extend(np.array([self.end]), 1)
        else:
            self.end += 1
        if last:
            self.closed = self.end

    def extend(self, starts: np.ndarray, rows: int) -> None:
        """Appends ``rows`` rows with episodes starting at ``starts``, all but the last finished."""
        if self._tail + len(starts) > len(self._starts):
            kept = self.starts
            self._starts = np.empty(2 * (len(kept) + len(starts)) + 16, np.int64)
            self._starts[: len(kept)] = kept
            self._head, self._tail = 0, len(kept)
        self._starts[self._tail : self._tail + len(starts)] = starts
        self._tail += len(starts)
        if len(starts):
            self.closed = int(starts[-1])
        self.end += rows

    def finish(self) -> None:
        """Marks the running episode as finished."""
        self.closed = self.end

    def reopen(self) -> None:
        """Marks the last episode as running again."""
        self.closed = int(self._starts[self._tail - 1])

    def cut(self, start: int) -> None:
        """Forgets the rows before ``start``; what is left of an episode stays one."""
        keep = int(np.searchsorted(self.starts, start, side="right")) - 1
        if start >= self.end:
            self._head = self._tail
        elif keep >= 0:
            self._head += keep
            self._starts[self._head] = start
        self.start = start
        self.closed = max(self.closed, start)

    def episodes(self, ongoing: bool) -> int:
        """Number of loaded episodes, with the running one or without."""
        return self._tail - self._head - (self.running and not ongoing)

    def limit(self, ongoing: bool) -> int:
        """Row after the last one that windows may hold."""
        return self.end if ongoing else self.closed

    def weight(self, length: int, ongoing: bool, by_steps: bool) -> int:
        """Equally likely draws here: windows, or episodes that a window can be drawn for."""
        windows = max(self.limit(ongoing) - self.start - length + 1, 0)
        return windows if by_steps or not windows else self.episodes(ongoing)

    def episode(self, rank: int, ongoing: bool) -> tuple[int, int]:
        """First row of an episode and the row after its last one."""
        at = self._head + rank
        stop = int(self._starts[at + 1]) if at + 1 < self._tail else self.limit(ongoing)
        return int(self._starts[at]), stop


def draw(
    stretches: Sequence[Stretch],
    batch: int,
    random: np.random.Generator,
    *,
    length: int,
    ongoing: bool,
    prioritize_ends: bool,
    by_steps: bool,
) -> list[tuple[int, int]]:
    """Draws windows as (index of the stretch, first row); an empty list where there are none.

    Episodes are drawn uniformly among those in stretches of at least ``length`` rows, then starts
    by `start_choices` and `window_start`; with ``by_steps`` all windows are equally likely.
    """
    weights = [stretch.weight(length, ongoing, by_steps) for stretch in stretches]
    ends = np.cumsum(weights)
    if not any(weights):
        return []
    ranks = random.integers(ends[-1], size=batch)
    which = np.searchsorted(ends, ranks, side="right").tolist()
    ranks = (ranks - ends[which]).tolist()  # From -weight to -1.
    if by_steps:
        return [
            (at, stretches[at].start + weights[at] + rank)
            for at, rank in zip(which, ranks, strict=True)
        ]
    episodes = [
        stretches[at].episode(weights[at] + rank, ongoing)
        for at, rank in zip(which, ranks, strict=True)
    ]
    choices = [start_choices(stop - begin, length, prioritize_ends) for begin, stop in episodes]
    values = random.integers(choices).tolist()
    return [
        (at, window_start(value, begin, stop, stretches[at].limit(ongoing), length))
        for at, value, (begin, stop) in zip(which, values, episodes, strict=True)
    ]
