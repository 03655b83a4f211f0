"""Transitions that say where they belong, so that every misplaced one is seen."""

from __future__ import annotations

from collections import Counter

import numpy as np


class Counting:
    """Adds transitions that say stream, episode, step in the episode and row in the stream."""

    def __init__(self, replay):
        self.replay = replay
        self.episodes = Counter()
        self.rows = Counter()
        self.steps = Counter()

    def add(self, worker=0, last=False, first=None):
        if first or (first is None and not self.steps[worker]):
            self.steps[worker] = 0
            self.episodes[worker] += 1
        where = [worker, self.episodes[worker], self.steps[worker], self.rows[worker]]
        transition = {
            "where": np.array(where, np.int32),
            "image": np.full((4, 4, 1), self.rows[worker] % 256, np.uint8),
            "action": np.zeros(3, np.float32),
            "reward": np.float32(self.steps[worker]),
            "is_first": np.bool_(self.steps[worker] == 0),
            "is_last": np.bool_(last),
            "is_terminal": np.bool_(last and self.episodes[worker] % 2),
            "log_x": np.float32(1.0),
        }
        self.replay.add(transition, worker)
        self.rows[worker] += 1
        self.steps[worker] = 0 if last else self.steps[worker] + 1

    def episode(self, length, worker=0, last=True):
        for step in range(length):
            self.add(worker, last=last and step == length - 1)


def check(batch, batch_size, length):
    """Whatever is drawn: rows follow each other, keys agree, seams are marked."""
    where = batch["where"]
    assert where.shape == (batch_size, length, 4)
    assert (np.diff(where[..., 3], axis=1) == 1).all()
    assert (where[..., 0] == where[:, :1, 0]).all()
    assert batch["is_first"][:, 0].all()
    assert ((where[:, 1:, 2] == 0) == batch["is_first"][:, 1:]).all()
    assert (batch["reward"] == where[..., 2]).all()
    assert (batch["image"] == (where[..., 3] % 256)[..., None, None, None]).all()
    same = where[:, 1:, 1] == where[:, :-1, 1]
    assert (same != batch["is_first"][:, 1:]).all()
