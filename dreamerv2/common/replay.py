"""Stores transitions on disk and samples windows of them; memory stays flat at any capacity."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dreamerv2.common import replay_sampling
from dreamerv2.common.errors import UserError
from dreamerv2.common.replay_chunk import DamagedRows
from dreamerv2.common.replay_store import Store, Window
from dreamerv2.common.replay_stream import Stream

_log = logging.getLogger(__name__)


class Replay:
    """Transitions of several environment workers, in files, and windows drawn from them.

    A transition is a flat dict of arrays and numbers with at least the bools ``is_first`` and
    ``is_last``; keys that start with ``log_`` are not stored. Each worker is a stream of its own.
    Files are written as documented in `replay_chunk`: a killed process loses at most the
    transition being written, and files that are damaged are renamed to ``*.bad`` with a warning.

    Sampling. With ``sample="episodes"`` an episode is drawn uniformly, then the start inside it,
    uniformly or with its end favoured (`start_choices`); an episode shorter than ``length``
    continues into those that followed it (`window_start`). With ``sample="steps"`` all windows are
    equally likely, whether they cross episodes or not. Where a stream holds fewer than ``length``
    rows nothing is drawn. An episode that a killed process left unfinished counts as finished.

    Eviction. When more than ``capacity`` rows are loaded the oldest chunk file goes as soon as
    ``capacity`` rows are left without it. Files being written are never evicted. So between
    ``capacity`` and ``max(capacity, streams * chunk) + chunk`` rows are loaded, ``chunk`` being
    at most an eighth of the capacity. An episode that loses its beginning stays usable.

    `gather` may run in one thread while another one calls `add` and everything else.

    Args:
        directory: Folder of the chunk files, created if missing.
        capacity: Transitions kept.
        length: Rows of a window.
        ongoing: Also sample from episodes that are still running. Where nothing else is there to
            sample, that happens anyway, with one warning.
        prioritize_ends: Draw the last window of an episode more often.
        sample: ``episodes`` or ``steps``.
        seed: Of the random generator for windows.
        chunk: Most rows in a file.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        capacity: int,
        length: int,
        ongoing: bool = False,
        prioritize_ends: bool = True,
        sample: str = "episodes",
        seed: int = 0,
        chunk: int = 1024,
    ) -> None:
        if sample not in ("episodes", "steps"):
            raise UserError(f"replay.sample is {sample!r}; choose 'episodes' or 'steps'.")
        if length < 1:
            raise UserError(f"dataset.length is {length}; it must be at least 1.")
        if capacity < length:
            raise UserError(
                f"replay.capacity is {int(capacity)}, less than one sequence; raise it to at "
                f"least dataset.length, which is {length}."
            )
        self.length = int(length)
        self._ongoing = ongoing
        self._prioritize_ends = prioritize_ends
        self._by_steps = sample == "steps"
        self._random = np.random.default_rng(seed)
        self._lock = threading.RLock()
        self._held: list[Stream] = []  # See `restore`.
        self._warned = False
        chunk = max(1, min(chunk, int(capacity) // 8))
        self._store = Store(Path(directory), int(capacity), chunk)

    @property
    def notices(self) -> list[str]:
        """Sentences about what was unusual: files set aside, running episodes sampled."""
        return self._store.notices

    def add(self, transition: Mapping[str, Any], worker: int = 0) -> None:
        """Appends a transition to the stream of a worker.

        Raises:
            UserError: its keys, dtypes or shapes differ from those stored, or the disk is full.
            ValueError: an episode begins without ``is_first``.
        """
        with self._lock:
            for stream in self._held:
                stream.finish()
            self._held.clear()
            self._store.append(transition, worker)

    def draw(self, batch: int) -> list[Window]:
        """Draws ``batch`` windows with the replay's own random generator, without reading data.

        Raises:
            UserError: no stream holds ``length`` rows yet.
        """
        with self._lock:
            found = [
                (number, stretch)
                for number, stream in sorted(self._store.streams.items())
                for stretch in stream.stretches
            ]
            windows = self._draw([stretch for _, stretch in found], batch, self._ongoing)
            if not windows and not self._ongoing:
                windows = self._draw([stretch for _, stretch in found], batch, True)
                if windows and not self._warned:
                    self._warned = True
                    notice = (
                        f"No finished episode gives {self.length} steps in a row yet, so "
                        f"sequences are drawn from episodes that are still running."
                    )
                    self._store.notices.append(notice)
                    _log.warning(notice)
            if not windows:
                raise UserError(
                    f"The replay holds no {self.length} steps in a row yet, but {self._store.rows} "
                    f"from {len(self._store.streams)} environments; raise prefill and "
                    f"replay.capacity, or lower dataset.length."
                )
            return [self._store.window(found[at][0], start, self.length) for at, start in windows]

    def gather(self, windows: Sequence[Window]) -> dict[str, np.ndarray]:
        """Reads windows: every stored key as ``(B, L, ...)``; ``is_first[:, 0]`` is True.

        A file that turns out damaged is set aside with a warning, and other windows are drawn in
        place of those in it.

        Raises:
            ChunkError: a file was truncated while it was in use.
            UserError: without the damaged files there is too little left, see `draw`.
        """
        while True:
            try:
                batch = self._store.read(windows, self.length)
            except DamagedRows as error:
                windows = self._replace(windows, error)
                continue
            batch["is_first"][:, 0] = True
            return batch

    def _replace(self, windows: Sequence[Window], error: DamagedRows) -> list[Window]:
        with self._lock:
            self._store.set_aside(error.chunk, error)
            whole = [w for w in windows if all(c is not error.chunk for c, _, _ in w.pieces)]
            return whole + self.draw(len(windows) - len(whole))

    def sample(self, batch: int) -> dict[str, np.ndarray]:
        """Draws and reads ``batch`` windows: ``(B, L, ...)`` arrays."""
        return self.gather(self.draw(batch))

    def locate(self, stream: int, start: int) -> Window | None:
        """The window at ``start`` of a stream, or None where its data is not loaded."""
        with self._lock:
            try:
                return self._store.window(stream, start, self.length)
            except KeyError:
                return None

    @property
    def stats(self) -> dict[str, int]:
        """Agent steps (transitions that are no ``is_first``) and finished episodes.

        ``total_*`` counts everything ever added, ``loaded_*`` what is on disk now.
        """
        with self._lock:
            streams = list(self._store.streams.values())
            starts = sum(chunk.episode_starts for s in streams for chunk in s.chunks)
            stretches = [stretch for s in streams for stretch in s.stretches]
            return {
                "total_steps": sum(s.steps for s in streams),
                "total_episodes": sum(s.begun - s.running for s in streams),
                "loaded_steps": self._store.rows - starts,
                "loaded_episodes": sum(s.episodes(ongoing=False) for s in stretches),
            }

    def state(self) -> dict[str, Any]:
        """Random generator, and each stream's counters and whether its episode is running."""
        with self._lock:
            streams = self._store.streams.items()
            return {
                "random": self._random.bit_generator.state,
                "streams": {str(number): [*s.totals, int(s.running)] for number, s in streams},
            }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from a `state`; with the same data, the same draws follow.

        Newer data stays. Counters of files that were lost are restored. An episode that was
        running then is not sampled, as before, until the next transition arrives.
        """
        with self._lock:
            self._random.bit_generator.state = state["random"]
            for number, (*totals, running) in state["streams"].items():
                stream = self._store.streams.setdefault(int(number), Stream(int(number)))
                if running and not stream.running and stream.reopen(totals[0]):
                    self._held.append(stream)
                stream.raise_totals(totals)

    def verify(self) -> list[Path]:
        """Reads all full files against their checksums; sets damaged ones aside.

        Meant to be called before anything is added: a damaged file leaves a gap, and episodes that
        are running end. Returns the paths that the damaged files had.
        """
        with self._lock:
            return self._store.verify()

    def flush(self) -> None:
        """Waits until everything added so far is on the disk."""
        with self._lock:
            self._store.flush()

    def close(self) -> None:
        """Flushes and closes the files that are being written."""
        with self._lock:
            self._store.close()

    def _draw(
        self, stretches: list[replay_sampling.Stretch], batch: int, ongoing: bool
    ) -> list[tuple[int, int]]:
        return replay_sampling.draw(
            stretches,
            batch,
            self._random,
            length=self.length,
            ongoing=ongoing,
            prioritize_ends=self._prioritize_ends,
            by_steps=self._by_steps,
        )
