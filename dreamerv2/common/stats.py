"""Statistics over runs and tasks, with stratified bootstrap confidence intervals.

After Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of the Statistical
Precipice", https://arxiv.org/abs/2108.13264, whose library `rliable` computes the same numbers; it
needs SciPy, pandas, statsmodels and seaborn, and what is used of it fits on this page.

Scores are task -> (S, P): a row for each of the S runs of that task, and P points (of training, or
resamples). They are normalised and have no NaN. The result does not depend on the order of tasks
or runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Scores = Mapping[str, np.ndarray]


def median(scores: Scores) -> np.ndarray:
    """The median over tasks of the mean over runs: (P,)."""
    return np.median([value.mean(0) for value in scores.values()], 0)


def mean(scores: Scores) -> np.ndarray:
    """The mean over tasks of the mean over runs: (P,)."""
    return np.mean([value.mean(0) for value in scores.values()], 0)


def iqm(scores: Scores) -> np.ndarray:
    """The interquartile mean: (P,).

    All runs of all tasks together, without the floor(N / 4) lowest and as many of the highest.
    """
    values = np.sort(np.concatenate(list(scores.values())), 0)  # (N, P)
    cut = len(values) // 4
    return values[cut : len(values) - cut].mean(0)


def optimality_gap(scores: Scores) -> np.ndarray:
    """How far runs stay below 1 on average, where going above 1 doesn't count: (P,)."""
    return 1 - np.minimum(np.concatenate(list(scores.values())), 1).mean(0)


def improvement(scores: Scores, others: Scores) -> np.ndarray:
    """The probability that a run of one method beats a run of another: (P,).

    The mean over the tasks that both have of the share of pairs of runs in which the first is
    higher; a tie counts half.

    Raises:
      ValueError: They have no task in common.
    """
    tasks = sorted(set(scores) & set(others))
    if not tasks:
        raise ValueError("the two methods have no task in common")
    shares = []
    for task in tasks:
        ours, theirs = scores[task][:, None], others[task][None]  # (S, 1, P) and (1, S', P)
        shares.append(((ours > theirs) + 0.5 * (ours == theirs)).mean((0, 1)))
    return np.mean(shares, 0)


def profile(scores: Scores, thresholds: np.ndarray) -> np.ndarray:
    """The share of runs, of all tasks together, with a score above each threshold.

    Args:
      scores: Task -> (S, P).
      thresholds: (K,).

    Returns:
      (K, P), which never increases with the threshold.
    """
    values = np.concatenate(list(scores.values()))
    return np.stack([(values > threshold).mean(0) for threshold in thresholds])


STATISTICS: dict[str, Callable[[Scores], np.ndarray]] = {
    "median": median,
    "iqm": iqm,
    "mean": mean,
    "optimality_gap": optimality_gap,
}


def resample(scores: Scores, count: int, seed: int, stream: int = 0) -> dict[str, np.ndarray]:
    """Draws runs with replacement, in each task as many as it has.

    Args:
      scores: Task -> (S,) or (S, 1).
      count: Number of resamples R.
      seed: The same seed gives the same resamples.
      stream: Different streams of one seed are independent of each other.

    Returns:
      Task -> (S, R).
    """
    result = {}
    rng = np.random.default_rng([seed, stream])
    for task in sorted(scores):
        values = np.sort(np.ravel(scores[task]))
        result[task] = values[rng.integers(len(values), size=(len(values), count))]
    return result


def interval(samples: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The percentile interval of a statistic of resamples.

    Args:
      samples: (..., R).
      confidence: Such as 0.95.

    Returns:
      The lower and the upper end, (...) each.
    """
    tail = 50 * (1 - confidence)
    low, high = np.percentile(samples, [tail, 100 - tail], axis=-1)
    return low, high
