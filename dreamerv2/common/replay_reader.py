"""Reads the replay of a run that belongs to someone else: nothing in its folder changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dreamerv2.common.envs.spaces import ActSpec, ObsSpec
from dreamerv2.common.errors import UserError
from dreamerv2.common.replay_chunk import ChunkError, Schema
from dreamerv2.common.replay_store import Window, read_windows
from dreamerv2.common.replay_stream import load_streams


class Episode(NamedTuple):
    """Rows ``[start, stop)`` of a stream: an episode, or what is loaded of it."""

    stream: int
    start: int
    stop: int

    @property
    def length(self) -> int:
        """Number of observations, one more than agent steps where the episode is whole."""
        return self.stop - self.start


class ReplayReader:
    """What a replay holds at the moment when this is made.

    Another process may go on adding to the replay and evicting from it. Damaged files are left
    out and left alone.

    Args:
        directory: Folder of the chunk files; where there is none, there are no episodes.

    Attributes:
        episodes: All of them, in no order that matters; also those still running, and those that
            lost their beginning to eviction.
        notices: Sentences about files that can't be used.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._streams, self.notices = load_streams(directory, readonly=True)
        self.episodes = [
            Episode(number, int(start), int(stop))
            for number, stream in sorted(self._streams.items())
            for stretch in stream.stretches
            for start, stop in zip(stretch.starts, [*stretch.starts[1:], stretch.end], strict=True)
        ]
        chunks = [chunk for stream in self._streams.values() for chunk in stream.chunks]
        self.schema: Schema = chunks[0].schema if chunks else {}

    def require(self, obs_space: Mapping[str, ObsSpec], act_space: ActSpec) -> None:
        """See that what an agent observes and does is what is stored.

        Raises:
            UserError: A key is missing, or of another type or shape.
        """
        wanted = {
            key: (spec.dtype, spec.shape)
            for key, spec in obs_space.items()
            if not key.startswith("log_")
        }
        wanted["action"] = (np.dtype(np.float32), (act_space.dim,))
        wanted["reward"] = (np.dtype(np.float32), ())
        wanted |= {key: (np.dtype(bool), ()) for key in ("is_first", "is_last", "is_terminal")}
        for key, entry in wanted.items() if self.schema else []:
            if self.schema.get(key) != entry:
                raise UserError(
                    f"the replay in {str(self._directory)!r} is not that of the agent: {key!r} is "
                    f"{self.schema.get(key, 'missing')} there, not {entry}; use the logdir of one "
                    "run."
                )

    def window(self, stream: int, start: int, length: int) -> Window:
        """Finds rows of a stream; KeyError if some of them are not loaded."""
        return Window(stream, start, self._streams[stream].pieces(start, length))

    def read(self, windows: Sequence[Window], length: int) -> dict[str, np.ndarray]:
        """Reads windows: every stored key as ``(B, length, ...)``; ``is_first[:, 0]`` is True.

        Raises:
            ChunkError: a file was evicted or truncated meanwhile.
        """
        try:
            batch = read_windows(self.schema, windows, length)
        except FileNotFoundError as error:
            raise ChunkError(f"{error.filename} has been evicted meanwhile") from error
        batch["is_first"][:, 0] = True
        return batch
