"""Success rates over episodes, and the score that summarises them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


class Successes:
    """Counts the episodes in which a value was positive at any time, for each chosen key.

    Args:
        pattern: Chooses keys of episodes, by regular expression matched from the start.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)
        self._episodes = 0
        self._counts: dict[str, int] = {}

    def add(self, episode: Mapping[str, np.ndarray]) -> None:
        """Count an episode of arrays ``(T, ...)``."""
        self._episodes += 1
        for key, value in episode.items():
            if self._pattern.match(key):
                self._counts[key] = self._counts.get(key, 0) + int(np.max(value) > 0)

    def metrics(self, mode: str) -> dict[str, float]:
        """Return the share of episodes for each key, and their `score`; nothing without keys.

        Args:
            mode: Part of the names, `train` or `eval`.
        """
        rates = {key: count / self._episodes for key, count in sorted(self._counts.items())}
        if not rates:
            return {}
        named = {f"success_{mode}_{key}": rate for key, rate in rates.items()}
        return {**named, f"success_{mode}_score": score(rates.values())}

    def state(self) -> dict[str, Any]:
        """Return what is needed to go on counting."""
        return {"episodes": self._episodes, "counts": dict(self._counts)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._episodes = int(state["episodes"])
        self._counts = {key: int(count) for key, count in state["counts"].items()}


def score(rates: Iterable[float]) -> float:
    """Return the Crafter score of success rates, in percent.

    It is ``exp(mean(log(1 + s))) - 1`` over rates s in percent: a geometric mean, in which a rare
    success counts more than a frequent one that becomes more frequent (Hafner, 2021, equation 1 of
    https://arxiv.org/abs/2109.06780).

    Args:
        rates: At least one, from 0 to 1.
    """
    percent = 100 * np.asarray(list(rates), np.float64)
    return float(np.expm1(np.log1p(percent).mean()))
