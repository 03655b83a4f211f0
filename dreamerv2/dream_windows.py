"""Chooses the sequences that open-loop predictions start from: whole inside one episode each."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dreamerv2 import tasks
from dreamerv2.common.driver import Driver
from dreamerv2.common.envs.vector import Batch
from dreamerv2.common.errors import UserError
from dreamerv2.common.replay import Replay
from dreamerv2.common.replay_chunk import ChunkError
from dreamerv2.common.replay_reader import ReplayReader
from dreamerv2.loading import Run
from dreamerv2.logdir import derive_seed

# Where windows are wanted that would not fit, there are fewer of them.
MAX_BYTES = 128 << 20
# Environments that fresh episodes are played in, side by side, and steps of all together: half a
# minute of Atari on two CPU cores.
ENVS = 8
MAX_STEPS = 8000

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Windows:
    """Sequences of equal length, none of which crosses the end of an episode.

    Attributes:
        data: Transitions ``(W, T, ...)``; ``is_first`` is True at step 0 and nowhere else.
        groups: ``(W,)`` int, equal for windows of the same episode.
        context: Steps before the prediction starts; ``T = context + horizon``.
        notes: Sentences about what differs from what was asked for.
    """

    data: dict[str, np.ndarray]
    groups: np.ndarray
    context: int
    notes: list[str]

    @property
    def length(self) -> int:
        """Steps of a window, T."""
        return int(self.data["is_first"].shape[1])

    @property
    def horizon(self) -> int:
        """Steps after the context."""
        return self.length - self.context

    def __len__(self) -> int:
        """Number of windows, W."""
        return len(self.groups)


def from_replay(
    folder: pathlib.Path,
    *,
    context: int,
    horizon: int,
    count: int,
    seed: int,
    run: Run | None = None,
) -> Windows:
    """Take windows out of the replay of a run, which a training process may be using.

    Args:
        folder: Of the chunk files; nothing in it changes.
        context: Steps before the prediction starts.
        horizon: Steps after that, fewer where episodes are short; see `choose_length`.
        count: Most windows.
        seed: Of the choice.
        run: The agent that is to dream, whose spaces have to be those of the replay.

    Raises:
        UserError: There is no replay, it is another agent's, or no episode in it has more than
            `context` observations.
    """
    reader = ReplayReader(folder)
    if run is not None:
        reader.require(run.obs_space, run.act_space)
    if not reader.episodes:
        raise UserError(
            f"there is no replay in {str(folder)!r} to start dreams from; use --dream "
            "episodes, which plays new ones."
        )
    return _take(reader, context, horizon, count, seed, f"the replay in {str(folder)!r}")


def from_episodes(
    run: Run, *, context: int, horizon: int, count: int, seed: int, say: Say
) -> Windows:
    """Take windows out of episodes that the agent plays now, in evaluation mode.

    Other than those in the replay, the world model was not trained on them. They are played into
    a temporary replay on disk, so that memory stays bounded however long they are. Of very long
    episodes only the beginning is played.

    Raises:
        UserError: The environment can't be made, or its episodes are all too short.
    """
    steps = min(count * (context + horizon) * 5 // 4, MAX_STEPS)
    say(f"Playing {steps:,} steps of {run.config.task} for the dreams to start from.")
    run.agent.seed_evaluation(seed)

    def policy(batch: Batch, state: Any) -> tuple[np.ndarray, Any]:
        action, state = run.agent.policy(batch, state, mode="eval")
        return action.numpy(), state

    with (
        tempfile.TemporaryDirectory() as name,
        tasks.make_env(run.config, "eval", derive_seed(seed, 1), num=ENVS) as env,
    ):
        folder = pathlib.Path(name)
        replay = Replay(folder, capacity=4 * steps + ENVS, length=1)
        Driver(env, on_transition=replay.add)(policy, steps=steps)
        replay.close()
        reader = ReplayReader(folder)
        return _take(reader, context, horizon, count, seed, f"new episodes of {run.config.task}")


def choose_length(lengths: Sequence[int], context: int, horizon: int) -> int:
    """Return how many steps windows have, or 0 where no episode is longer than the context.

    That is ``context + horizon``, or less: as long as possible while episodes of at least that
    length hold half of all steps, so that a few long episodes do not speak for many short ones.

    Args:
        lengths: Observations of each episode.
        context: Steps before the prediction starts.
        horizon: Steps wanted after that.
    """
    full = context + horizon
    ordered = np.sort(np.asarray(lengths, np.int64))[::-1]
    held = np.cumsum(ordered)  # Steps in episodes of at least ordered[i].
    half = int(ordered[np.searchsorted(held, held[-1] / 2)])
    if half <= context:
        half = int(ordered[0])
    return min(full, half) if half > context else 0


def _take(
    reader: ReplayReader, context: int, horizon: int, count: int, seed: int, name: str
) -> Windows:
    notes = list(reader.notices)
    lengths = [episode.length for episode in reader.episodes]
    length = choose_length(lengths, context, horizon)
    if not length:
        raise UserError(
            f"the longest of {len(lengths)} episodes in {name} has {max(lengths)} observations, "
            f"but dreams need {context} of context and one more; take a task with longer "
            "episodes or a run that has got further."
        )
    if length < context + horizon:
        enough = sum(n >= context + horizon for n in lengths)
        notes.append(
            f"{length - context} steps are imagined instead of {horizon}, since dreams do not "
            f"cross the end of an episode and {enough:,} of {len(lengths):,} episodes have "
            f"{context + horizon} observations."
        )
    rng = np.random.default_rng(seed)
    candidates = _disjoint(reader, length, rng)
    row = sum(dtype.itemsize * int(np.prod(shape)) for dtype, shape in reader.schema.values())
    count = max(1, min(count, MAX_BYTES // (row * length)))
    parts: list[dict[str, np.ndarray]] = []
    groups: list[int] = []
    for at in rng.permutation(len(candidates)):
        if len(parts) == count:
            break
        group, start = candidates[at]
        stream = reader.episodes[group].stream
        try:
            parts.append(reader.read([reader.window(stream, start, length)], length))
        except ChunkError:
            continue  # A training process has evicted it meanwhile; there are others.
        groups.append(group)
    if not parts:
        raise UserError(f"{name} has been evicted while it was read; try again.")
    data = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return Windows(data, np.array(groups), context, notes)


def _disjoint(reader: ReplayReader, length: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return windows that share no step, as (index of the episode, first row)."""
    result = []
    for index, episode in enumerate(reader.episodes):
        fit = episode.length // length
        offset = int(rng.integers(episode.length - fit * length + 1))
        result += [(index, episode.start + offset + i * length) for i in range(fit)]
    return result
