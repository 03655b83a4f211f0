"""Where dreams begin: in a new episode, or anywhere in the replay."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dreamerv2.common.envs.vector import VecEnv
from dreamerv2.common.errors import UserError
from dreamerv2.common.replay_chunk import ChunkError
from dreamerv2.common.replay_reader import ReplayReader
from dreamerv2.play_dream import Context, Dreamer

# Rows of a replay that vanish between finding and reading them are looked for this often.
TRIES = 5


class FreshStart:
    """Begins in a new episode, which the agent plays for the first few steps.

    Args:
        dreamer: Steps of the world model.
        env: One environment.
        context: Number of observations; less where an episode is too short for them.
    """

    def __init__(self, dreamer: Dreamer, env: VecEnv, context: int) -> None:
        self._dreamer = dreamer
        self._env = env
        self._context = context

    def __call__(self) -> Context:
        """Play until an episode has lasted long enough."""
        length = self._context
        while True:
            found = self._play(length)
            if found is not None:
                return found
            length = max(1, length // 2)

    def _play(self, length: int) -> Context | None:
        batch = self._env.reset()
        action = np.zeros(self._env.act_space.dim, np.float32)
        state, outputs = self._dreamer.observe(self._dreamer.initial(), action, batch)
        for _ in range(length - 1):
            action = outputs["choice"].numpy()
            batch = self._env.step(action[None])
            if batch["is_last"][0]:
                return None
            state, outputs = self._dreamer.observe(state, action, batch)
        note = f"The dream began after {length} real observation{'s' * (length > 1)}."
        return Context(state, batch, note)


class ReplayStart:
    """Begins anywhere in what the run has seen.

    Args:
        dreamer: Steps of the world model.
        folder: Of the replay; nothing in it changes.
        context: Number of observations; less where no episode is that long.
        seed: Of the choice.

    Raises:
        UserError: The replay holds no steps.
    """

    def __init__(self, dreamer: Dreamer, folder: Path, context: int, seed: int = 0) -> None:
        self._dreamer = dreamer
        self._folder = folder
        self._context = context
        self._random = np.random.default_rng(seed)
        self._windows()

    def __call__(self) -> Context:
        """Draw an observation that does not end its episode, and what was seen before it."""
        rows = self._read()
        count = len(rows["is_first"])
        state = self._dreamer.initial()
        for row in range(count):
            transition = {key: value[row : row + 1] for key, value in rows.items()}
            action = transition.pop("action")[0]
            state, _ = self._dreamer.observe(state, action, transition)
        note = f"The dream began after {count} observation{'s' * (count > 1)} of the replay."
        return Context(state, transition, note)

    def _read(self) -> dict[str, np.ndarray]:
        for attempt in range(TRIES):
            reader, windows = self._windows()
            stream, start, length = windows[self._random.integers(len(windows))]
            try:
                rows = reader.read([reader.window(stream, start, length)], length)
            except ChunkError as error:  # The run goes on and has deleted it; there is more.
                if attempt == TRIES - 1:
                    raise UserError(f"the replay in {str(self._folder)!r} {error}") from error
                continue
            return {key: value[0] for key, value in rows.items()}
        raise AssertionError

    def _windows(self) -> tuple[ReplayReader, list[tuple[int, int, int]]]:
        """List a window for each episode that has two rows, by stream, first row and length."""
        reader = ReplayReader(self._folder)
        run = self._dreamer.run
        reader.require(run.obs_space, run.act_space)
        windows = []
        for episode in reader.episodes:
            # The last row may be the end of the episode, which there is nothing to dream after.
            length = min(self._context, episode.length - 1)
            if length > 0:
                latest = episode.length - 1 - length
                offset = int(self._random.integers(latest + 1))
                windows.append((episode.stream, episode.start + offset, length))
        if not windows:
            raise UserError(
                f"the replay in {str(self._folder)!r} holds no steps to begin from; choose a "
                "logdir that still has its replay, or one whose environment can be made."
            )
        return reader, windows
