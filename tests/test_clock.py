import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamerv2.common.clock import Counter, Every, Once, Until

steps = st.lists(st.integers(0, 500), min_size=1, max_size=40).map(sorted)


def test_counter_counts_and_compares():
    counter = Counter(3)
    assert counter.increment() == 4
    assert counter.increment(6) == counter.value == int(counter) == 10
    assert counter == 10 and counter == Counter(10) and counter != 11
    assert counter < 11 and counter >= 10 and counter > Counter(9)
    assert list(range(20))[counter] == 10
    assert repr(counter) == "Counter(10)"


def test_counter_never_goes_back_and_is_no_key():
    with pytest.raises(ValueError, match="-1"):
        Counter().increment(-1)
    with pytest.raises(TypeError):
        hash(Counter())


def test_counter_state_survives_json():
    counter, other = Counter(7), Counter()
    other.restore(json.loads(json.dumps(counter.state())))
    assert other == counter


def test_every_known_values():
    every = Every(10)
    asked = [3, 4, 12, 13, 14, 22, 23, 23, 57, 58, 62, 63]
    due = [step for step in asked if every(step)]
    # The first call is at 3, so the multiples are 13, 23, ...; the gap to 57 gives one trigger,
    # and the one after it comes at 63 and not ten steps after 57.
    assert due == [3, 13, 23, 57, 63]


def test_every_zero_is_never_due_and_negative_is_refused():
    every = Every(0)
    assert not any(every(step) for step in range(20))
    for bad in (-1, float("nan")):
        with pytest.raises(ValueError):
            Every(bad)


def test_every_count_keeps_pace_with_parallel_environments():
    every = Every(16)
    assert [every.count(step) for step in range(0, 161, 32)] == [1, 2, 2, 2, 2, 2]
    every = Every(16)
    assert [every.count(step) for step in (0, 12, 24, 36, 48)] == [1, 0, 1, 1, 1]


def test_every_ignores_time_that_goes_back():
    every = Every(5)
    assert every(10)
    assert not every(2)
    assert not every(14)
    assert every(15)


def test_every_takes_floats_and_stays_exact_with_whole_ones():
    every = Every(1e4)
    assert every.count(0) == 1
    assert every.count(10**17) == 10**13
    assert every.count(10**17 + 9999) == 0
    seconds = Every(0.5)
    assert [time for time in (0.1, 0.5, 0.65, 1.0, 1.2) if seconds(time)] == [0.1, 0.65, 1.2]


@given(st.integers(1, 50), steps)
def test_every_matches_the_definition_by_multiples(interval, times):
    every = Every(interval)
    total = 0
    for index, time in enumerate(times):
        count = every.count(time)
        passed = [t for t in range(times[0], time + 1) if (t - times[0]) % interval == 0]
        total += count
        assert total == len(passed), index  # No trigger lost or invented, whatever the gaps.


@given(st.integers(1, 50), steps)
def test_every_call_is_true_exactly_where_count_is_positive(interval, times):
    left, right = Every(interval), Every(interval)
    assert [left(time) for time in times] == [right.count(time) > 0 for time in times]


@given(st.integers(1, 50), steps, st.integers(0, 40))
def test_every_restored_continues_as_if_uninterrupted(interval, times, cut):
    whole, first, second = Every(interval), Every(interval), Every(interval)
    expected = [whole.count(time) for time in times]
    actual = [first.count(time) for time in times[:cut]]
    second.restore(json.loads(json.dumps(first.state())))
    actual += [second.count(time) for time in times[cut:]]
    assert actual == expected


def test_every_restored_with_a_smaller_interval_does_not_burst():
    old = Every(1000)
    old(0)
    old(5500)
    new = Every(10)
    new.restore(old.state())
    assert new.count(5501) == 0
    assert new.count(5510) == 1


def test_until():
    until = Until(1e3)
    assert until(0) and until(999)
    assert not until(1000) and not until(2000)
    assert not Until(0)(0)


def test_once_also_after_restoring():
    once = Once()
    assert [once(), once(), once()] == [True, False, False]
    other = Once()
    other.restore(json.loads(json.dumps(once.state())))
    assert not other()
    fresh = Once()
    fresh.restore(Once().state())
    assert fresh()
