"""Videos of the best, the median and the worst of many episodes, whatever their length."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType

import numpy as np

from dreamerv2.common.driver import Transition
from dreamerv2.common.envs.spaces import ActSpec
from dreamerv2.common.errors import UserError
from dreamerv2.common.overlay import overlay
from dreamerv2.common.video import MAX_GIF_FPS, save_gif
from dreamerv2.common.video_mp4 import MP4Writer

# GIFs of longer episodes leave frames out: they are for a page, the MP4 is for looking closely.
GIF_FRAMES = 300
# Short episodes are slowed down to last this many seconds, at this many frames a second or more.
SHORTEST_SECONDS = 3.0
SLOWEST_FPS = 4.0
_PIECE = 128


@dataclasses.dataclass
class Recording:
    """One episode: `rewards` and `actions` for each frame, and where its `images` are stored."""

    rewards: list[float] = dataclasses.field(default_factory=list)
    actions: list[np.ndarray] = dataclasses.field(default_factory=list)
    images: dict[str, list[tuple[int, int]]] = dataclasses.field(default_factory=dict)


class Recorder:
    """Keeps all images of all episodes until it is known which of them are worth a video.

    They are compressed in a temporary file that vanishes with the process, because an Atari
    episode can have 27,000 frames of which each is 4 KB, and many episodes do not fit in memory.
    A context manager.

    Args:
        keys: Image keys to keep.
        folder: Where the temporary file is made.

    Attributes:
        episodes: What `on_episode` was called for, in that order.
    """

    def __init__(self, keys: Sequence[str], folder: str | os.PathLike[str]) -> None:
        self._keys = tuple(keys)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._size = 0
        self._running: dict[int, Recording] = {}
        self.episodes: list[Recording] = []

    def on_transition(self, transition: Transition, worker: int) -> None:
        """Keep a transition, for `Driver`.

        Raises:
            UserError: The disk is full.
        """
        if transition["is_first"]:
            self._running[worker] = Recording()
        recording = self._running[worker]
        recording.rewards.append(float(transition["reward"]))
        recording.actions.append(np.array(transition["action"]))
        for key in self._keys:
            data = zlib.compress(transition[key].tobytes(), 1)
            recording.images.setdefault(key, []).append((self._size, len(data)))
            self._shapes[key] = transition[key].shape
            try:
                self._file.write(data)
            except OSError as error:
                raise UserError(
                    f"the images of the episodes can't be kept for --video ({error.strerror}); "
                    "free space, choose another --outdir, or play fewer --episodes."
                ) from error
            self._size += len(data)

    def on_episode(self, episode: Mapping[str, np.ndarray], worker: int) -> None:
        """Count the episode that a worker has just finished, for `Driver`."""
        self.episodes.append(self._running.pop(worker))

    def frames(self, episode: int, key: str, at: Sequence[int]) -> np.ndarray:
        """Return images of an episode, at the given times: ``(len(at), H, W, C)`` uint8."""
        self._file.flush()
        places = self.episodes[episode].images[key]
        parts = [os.pread(self._file.fileno(), places[t][1], places[t][0]) for t in at]
        images = [np.frombuffer(zlib.decompress(part), np.uint8) for part in parts]
        return np.stack(images).reshape(len(at), *self._shapes[key])

    def close(self) -> None:
        """Delete the images."""
        self._file.close()

    def __enter__(self) -> Recorder:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


def choose(returns: Sequence[float]) -> dict[str, int]:
    """Return which episodes are the best, the (lower) median and the worst, by their returns."""
    order = np.argsort(returns, kind="stable")
    middle = int(order[(len(order) - 1) // 2])
    return {"best": int(np.argmax(returns)), "median": middle, "worst": int(np.argmin(returns))}


def write_videos(
    recorder: Recorder,
    folder: pathlib.Path,
    *,
    fps: float,
    describe: Callable[[np.ndarray], str],
    progress: Callable[[int], None] = lambda frames: None,
) -> list[pathlib.Path]:
    """Write MP4 and GIF of the best, the median and the worst episode: `best.mp4` and so on.

    Beneath each frame stand the return so far, the reward, the step, and the action that led to
    it. With several image keys their names are part of those of the files.

    Args:
        recorder: Has at least one episode.
        folder: Exists.
        fps: Agent steps a second; short episodes are slowed down.
        describe: Turns an action ``(A,)`` into a few words.
        progress: Told how many more frames were encoded.

    Returns:
        The files, with the same episode twice where it is, for example, best and median.

    Raises:
        UserError: A file can't be written.
    """
    returns = [sum(episode.rewards) for episode in recorder.episodes]
    files: list[pathlib.Path] = []
    written: dict[tuple[int, str], pathlib.Path] = {}
    for role, episode in choose(returns).items():
        for key in recorder.episodes[episode].images:
            several = len(recorder.episodes[episode].images) > 1
            path = folder / (f"{role}_{key.replace('/', '.')}" if several else role)
            copied = written.setdefault((episode, key), path)
            for file in (path.with_suffix(".mp4"), path.with_suffix(".gif")):
                if copied != path:
                    shutil.copyfile(copied.with_suffix(file.suffix), file)
                files.append(file)
            if copied == path:
                _write(recorder, episode, key, path, fps, describe, progress)
    return files


def frames_to_encode(recorder: Recorder) -> int:
    """Return how many frames `write_videos` will report to its `progress`."""
    returns = [sum(episode.rewards) for episode in recorder.episodes]
    chosen = [recorder.episodes[index] for index in set(choose(returns).values())]
    return sum(len(places) for episode in chosen for places in episode.images.values())


def speed(length: int, fps: float) -> float:
    """Return the frames a second of a video with `length` frames."""
    return min(fps, max(length / SHORTEST_SECONDS, SLOWEST_FPS))


def describe_action(space: ActSpec, names: Sequence[str] | None) -> Callable[[np.ndarray], str]:
    """Return a function that turns an action vector ``(A,)`` into words.

    Args:
        space: Of the action.
        names: Of the choices of a discrete action, if they have names.
    """

    def describe(action: np.ndarray) -> str:
        if space.kind == "discrete" and names is not None:
            return names[int(np.argmax(action))]
        values = np.ravel(space.to_env(action[None])[0])
        form = "{:+.2f}" if space.kind == "continuous" else "{}"
        return "  ".join(form.format(value) for value in values.tolist())

    return describe


def _write(
    recorder: Recorder,
    episode: int,
    key: str,
    path: pathlib.Path,
    fps: float,
    describe: Callable[[np.ndarray], str],
    progress: Callable[[int], None],
) -> None:
    """Encode one episode, a piece at a time."""
    recording = recorder.episodes[episode]
    length = len(recording.rewards)
    lines = list(_captions(recording, describe))
    fps = speed(length, fps)
    with MP4Writer(path.with_suffix(".mp4"), fps) as writer:
        for start in range(0, length, _PIECE):
            at = range(start, min(start + _PIECE, length))
            writer.append(overlay(recorder.frames(episode, key, at), [lines[t] for t in at]))
            progress(len(at))
    at = range(0, length, -(-length // GIF_FRAMES))
    frames = overlay(recorder.frames(episode, key, at), [lines[t] for t in at])
    try:
        save_gif(path.with_suffix(".gif"), frames, min(fps, MAX_GIF_FPS))
    except OSError as error:
        raise UserError(
            f"the video {str(path.with_suffix('.gif'))!r} can't be written ({error.strerror}); "
            "free space, or choose another --outdir."
        ) from error


def _captions(
    recording: Recording, describe: Callable[[np.ndarray], str]
) -> Iterator[tuple[str, str]]:
    so_far, last = 0.0, len(recording.rewards) - 1
    for t, (reward, action) in enumerate(zip(recording.rewards, recording.actions, strict=True)):
        so_far += reward
        yield (
            f"return {_number(so_far)}   reward {_number(reward)}",
            f"step {t:,}/{last:,}   action {describe(action) if t else '-'}",
        )


def _number(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".")
