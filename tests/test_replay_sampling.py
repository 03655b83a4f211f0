"""The index arithmetic against oracles that look at one row at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamerv2.common.replay_sampling import Stretch, draw, start_choices, window_start


def test_published_formula_for_long_episodes():
    # index = min(randint(T - L + 1 + L), T - L) with T = 7, L = 3.
    assert start_choices(7, 3, prioritize_ends=True) == 8
    starts = [window_start(value, 100, 107, 200, 3) for value in range(8)]
    assert starts == [100, 101, 102, 103, 104, 104, 104, 104]
    assert start_choices(7, 3, prioritize_ends=False) == 5


def test_short_episode_starts_at_its_beginning_or_where_the_window_still_fits():
    assert start_choices(2, 5, True) == start_choices(2, 5, False) == 1
    assert window_start(0, 10, 12, 100, 5) == 10
    assert window_start(0, 10, 12, 13, 5) == 8


@pytest.mark.parametrize("prioritize_ends", [True, False])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_every_step_is_reachable_and_windows_fit(length, prioritize_ends):
    for lengths in ([1] * 6, [5, 1, 1], [2, 9], [9, 2], [5], [3, 3, 3, 1]):
        total, begin = sum(lengths), 0
        for steps in lengths:
            seen = set()
            for value in range(start_choices(steps, length, prioritize_ends)):
                start = window_start(value, begin, begin + steps, total, length)
                assert 0 <= start <= total - length
                if steps >= length:
                    assert begin <= start <= begin + steps - length
                seen |= set(range(start, start + length))
            assert set(range(begin, begin + steps)) <= seen
            begin += steps


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60), st.integers(1, 6))
def test_stretch_agrees_with_a_list_of_episodes(actions, length):
    """Rows are pushed and cut in any order; the oracle keeps every row in a Python list."""
    stretch = Stretch(7)
    rows: list[tuple[int, int]] = []  # (row, episode)
    episode, running, number = 0, False, 7
    for action, last in actions:
        if action < 3:
            first = not running or action == 0
            episode += first
            stretch.push(first, last)
            rows.append((number, episode))
            number, running = number + 1, not last
        elif rows:
            rows = rows[(len(rows) + 1) // 2 :]
            stretch.cut(number - len(rows))
        episodes = sorted({e for _, e in rows})
        finished = [e for e in episodes if e != episode or not running]
        assert stretch.episodes(ongoing=True) == len(episodes)
        assert stretch.episodes(ongoing=False) == len(finished)
        for ongoing, known in ((True, episodes), (False, finished)):
            usable = [row for row, e in rows if e in known]
            windows = max(0, len(usable) - length + 1)
            assert stretch.weight(length, ongoing, by_steps=True) == windows
            expected = len(known) if windows else 0
            assert stretch.weight(length, ongoing, by_steps=False) == expected
            for rank, e in enumerate(known):
                own = [row for row, other in rows if other == e]
                assert stretch.episode(rank, ongoing) == (own[0], own[-1] + 1)


def test_many_short_episodes_are_drawn_uniformly():
    stretches = []
    for start, episodes in ((0, 300), (5, 0), (9, 700)):
        stretch = Stretch(start)
        for _ in range(episodes):
            stretch.push(True, False)
            stretch.push(False, True)
        stretches.append(stretch)
    windows = draw(
        stretches,
        200_000,
        np.random.default_rng(0),
        length=2,
        ongoing=False,
        prioritize_ends=True,
        by_steps=False,
    )
    found, counts = np.unique(windows, axis=0, return_counts=True)
    expected = [(0, 2 * e) for e in range(300)] + [(2, 9 + 2 * e) for e in range(700)]
    assert [tuple(pair) for pair in found.tolist()] == expected
    # Chi-square with 999 degrees of freedom: mean 999, deviation 45.
    assert abs(np.sum((counts - 200) ** 2 / 200) - 999) < 5 * 45


def test_nothing_to_draw():
    options = {"length": 2, "ongoing": True, "prioritize_ends": True, "by_steps": False}
    assert draw([], 4, np.random.default_rng(0), **options) == []
    assert draw([Stretch(0)], 4, np.random.default_rng(0), **options) == []
