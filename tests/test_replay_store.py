"""Any order of adding, drawing, reopening and restoring, compared with plain Python lists."""

from __future__ import annotations

import json
import tempfile

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dreamerv2.common.errors import UserError
from dreamerv2.common.replay import Replay

CAPACITY, LENGTH, CHUNK = 40, 5, 4


class ReplayMachine(RuleBasedStateMachine):
    """Keeps all rows ever added; the replay must hold the newest and lose none of them."""

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.rows = {}
        self.running = {}
        self.begun = 0
        self.open()

    def open(self):
        self.replay = Replay(self.directory.name, capacity=CAPACITY, length=LENGTH, chunk=CHUNK)

    def teardown(self):
        self.replay.close()
        self.directory.cleanup()

    @rule(worker=st.integers(0, 2), count=st.integers(1, 12), last=st.booleans())
    def add(self, worker, count, last):
        rows = self.rows.setdefault(worker, [])
        for step in range(count):
            first = not self.running.get(worker)
            final = last and step == count - 1
            self.replay.add(
                {
                    "row": np.array([worker, len(rows)], np.int32),
                    "is_first": first,
                    "is_last": final,
                },
                worker,
            )
            rows.append((first, final))
            self.begun += first
            self.running[worker] = not final

    @rule()
    def crash(self):
        self.open()
        self.running.clear()

    @rule()
    def resume(self):
        state, stats = json.loads(json.dumps(self.replay.state())), self.replay.stats
        expected = self.draw()
        self.open()
        self.replay.restore(state)
        assert self.replay.stats == stats
        assert self.draw() == expected
        self.running.clear()

    def draw(self):
        try:
            return [tuple(window[:2]) for window in self.replay.draw(6)]
        except UserError:
            return None

    @rule()
    def sample(self):
        try:
            batch = self.replay.sample(8)
        except UserError:
            return
        for window in range(8):
            (worker, start) = batch["row"][window, 0].tolist()
            expected = [[worker, start + i] for i in range(LENGTH)]
            assert batch["row"][window].tolist() == expected
            flags = self.rows[worker][start : start + LENGTH]
            assert batch["is_last"][window].tolist() == [last for _, last in flags]
            assert batch["is_first"][window].tolist() == [True] + [first for first, _ in flags[1:]]

    @invariant()
    def counts(self):
        stats = self.replay.stats
        total = sum(len(rows) for rows in self.rows.values())
        loaded = self.replay._store.rows
        firsts = sum(first for rows in self.rows.values() for first, _ in rows)
        assert stats["total_steps"] == total - firsts
        assert min(total, CAPACITY) <= loaded < CAPACITY + CHUNK
        assert self.begun - 3 <= stats["total_episodes"] <= self.begun
        assert not self.replay.notices or "still running" in self.replay.notices[0]


TestReplayMachine = ReplayMachine.TestCase
TestReplayMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
