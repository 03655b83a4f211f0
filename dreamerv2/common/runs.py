"""Finds and reads the runs of a user: log folders with a `metrics.jsonl`.

What a run is comes from its path, if that ends in `task/method/seed`, and from its `config.yaml`.
A folder that can't be used is left out with a sentence, and the others are still read.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TextIO

import numpy as np

from dreamerv2.common import series
from dreamerv2.common.aggregate import natural, simplify, unknown
from dreamerv2.common.errors import UserError
from dreamerv2.common.score_data import Run

# Below this size starting other processes takes longer than they save.
PARALLEL_BYTES = 50e6


@dataclasses.dataclass(frozen=True)
class Result:
    """The runs that could be read, and sentences about what was odd or left out."""

    runs: tuple[Run, ...]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Logdir:
    """A log folder and what its path and configuration say about it."""

    path: pathlib.Path
    task: str
    method: str
    seed: str
    action_repeat: int | None


def read(
    indirs: Sequence[str | os.PathLike[str]],
    *,
    metric: str = "eval_return",
    xaxis: str = "step",
    known: Iterable[str] = (),
    taken: Iterable[str] = (),
    progress: TextIO | None = sys.stderr,
) -> Result:
    """Reads every run below some folders.

    Args:
      indirs: Log folders, or folders above them.
      metric: What to read from `metrics.jsonl`.
      xaxis: The steps that it belongs to.
      known: Tasks that have a name already; other spellings of them get that name.
      taken: Methods that have a name already; one's own with such a name get " (own)" behind it.
      progress: Where a progress bar goes if it is a terminal.

    Returns:
      The runs by task, method and seed, with a point for each line that has the metric, and notes.

    Raises:
      UserError: There is no run to return.
    """
    notes: list[str] = []
    logdirs: list[Logdir] = []
    names, taken = {simplify(task): task for task in known}, set(taken)
    for indir in indirs:
        root = pathlib.Path(indir).expanduser()
        if not root.is_dir():
            notes.append(f"{root} is not a folder; name one that holds log folders")
            continue
        found = list(_find(root))
        if not found:
            notes.append(f"{root} has no metrics.jsonl in it; name a folder that holds log folders")
        for path in found:
            logdir = _describe(path, root, names)
            if isinstance(logdir, str):
                notes.append(logdir)
            else:
                if logdir.method in taken:
                    logdir = dataclasses.replace(logdir, method=f"{logdir.method} (own)")
                logdirs.append(logdir)
    logdirs = _unique(logdirs, notes)
    notes += _action_repeats(logdirs)
    runs = []
    for logdir, result in zip(logdirs, _series(logdirs, metric, xaxis, progress), strict=True):
        if isinstance(result, str):
            notes.append(result)
            continue
        notes += _oddities(logdir, result, metric)
        if result.steps.size:
            runs.append(
                Run(
                    suite=logdir.task.split("_")[0],
                    task=logdir.task,
                    method=logdir.method,
                    seed=logdir.seed,
                    frames=result.steps,
                    returns=result.values,
                    source=str(logdir.path),
                )
            )
    if not runs:
        raise UserError("; ".join(notes[:3]) or "no folder was named; name one with --indir")
    for task in sorted({logdir.task for logdir in logdirs} - set(names.values())):
        if names:
            what = unknown("task", task, names.values())
            notes.append(f"{what[:1].upper()}{what[1:]}; its runs are read nevertheless")
    runs.sort(key=lambda run: (run.task, run.method, natural(str(run.seed))))
    return Result(tuple(runs), tuple(notes))


def bin_run(run: Run, size: float) -> Run:
    """Averages the points of a run in bins, as published curves are.

    Args:
      run: Any run.
      size: Frames per bin; bin k holds the points after k * size up to (k + 1) * size.

    Returns:
      The run with a point per bin that isn't empty, at the end of the bin, or at the run's last
      point if the last bin isn't complete.
    """
    index = np.maximum(np.ceil(run.frames / size), 1)
    bins, start, count = np.unique(index, return_index=True, return_counts=True)
    frames = bins * float(size)
    frames[-1] = min(frames[-1], run.frames[-1])
    return dataclasses.replace(
        run, frames=frames, returns=np.add.reduceat(run.returns, start) / count
    )


def _find(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """Folders with metrics, in natural order; what lies below such a folder is not searched."""
    for folder, children, files in os.walk(root):
        if "metrics.jsonl" in files:
            children.clear()
            yield pathlib.Path(folder)
        if "config.yaml" in files:  # Other workers of the same run, should it have no metrics yet.
            children[:] = [name for name in children if name != "workers"]
        children.sort(key=natural)


def _describe(path: pathlib.Path, root: pathlib.Path, names: dict[str, str]) -> Logdir | str:
    """What a log folder holds, or why that can't be said."""
    config = _config(path / "config.yaml")
    parts = path.absolute().parts
    below = len(path.relative_to(root).parts)
    task, seed = config.get("task"), config.get("seed")
    method = root.absolute().name if below else path.absolute().name
    if len(parts) > 3:
        spelled = simplify(parts[-3])
        layout = below >= 3 or spelled in names
        if layout if task is None else spelled == simplify(task):
            task, method, seed = task or parts[-3], parts[-2], parts[-1]
    if task is None:
        return (
            f"{path} is left out because it has no config.yaml that names its task and its path "
            f"does not end in task/method/seed"
        )
    repeat = config.get("action_repeat", "")
    return Logdir(
        path,
        names.get(simplify(task), task),
        method,
        path.name if seed is None else seed,
        int(repeat) if re.fullmatch(r"\d{1,9}", repeat, re.ASCII) else None,
    )


def _config(path: pathlib.Path) -> dict[str, str]:
    """The values of a configuration that are needed here.

    They are plain values at the beginning of a line. A YAML parser takes 30 ms per file for the
    other two hundred.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pattern = r"^(task|seed|action_repeat):[ \t]+(['\"]?)([^'\"#\n]+?)\2[ \t]*(?:#.*)?$"
    return {key: value for key, _, value in re.findall(pattern, text, re.MULTILINE)}


def _unique(logdirs: list[Logdir], notes: list[str]) -> list[Logdir]:
    """Leaves out folders found twice, and tells apart different ones that have the same seed."""
    paths = {logdir.path.resolve(): logdir for logdir in reversed(logdirs)}
    logdirs = list(reversed(paths.values()))
    count = Counter((logdir.task, logdir.method, logdir.seed) for logdir in logdirs)
    result = []
    for logdir in logdirs:
        if count[logdir.task, logdir.method, logdir.seed] > 1:
            notes.append(
                f"{logdir.path} has task {logdir.task}, method {logdir.method} and seed "
                f"{logdir.seed} like another folder; it counts as a seed of its own"
            )
            logdir = dataclasses.replace(logdir, seed=f"{logdir.seed} {logdir.path}")
        result.append(logdir)
    return result


def _action_repeats(logdirs: list[Logdir]) -> Iterator[str]:
    """Sentences about tasks whose runs have different action repeats."""
    for task in sorted({logdir.task for logdir in logdirs}):
        count = Counter(
            logdir.action_repeat
            for logdir in logdirs
            if logdir.task == task and logdir.action_repeat is not None
        )
        if len(count) > 1:
            listed = " and ".join(
                f"{repeat} ({n} run{'s' * (n > 1)})" for repeat, n in sorted(count.items())
            )
            yield (
                f"The runs of {task} have the action repeats {listed}; their steps are compared in "
                f"frames, but they acted at different rates"
            )


def _oddities(logdir: Logdir, result: series.Series, metric: str) -> Iterator[str]:
    """Sentences about the metrics of one run."""
    if result.broken:
        yield (
            f"{logdir.path} has broken lines in metrics.jsonl; {result.broken} of {result.lines} "
            f"are skipped"
        )
    if result.replaced:
        yield (
            f"{logdir.path} went back in steps, as a resumed run does; earlier values of {metric} "
            f"give way to later ones, {result.replaced} in all"
        )
    if result.missing:
        yield f"{logdir.path} has lines whose {metric} is not finite; {result.missing} are skipped"
    if not result.steps.size:
        returns = [name for name in result.names if "return" in name] or list(result.names)
        instead = f"has {', '.join(returns[:5])}" if returns else "has no metric yet"
        yield f"{logdir.path} is left out because it has no {metric}; it {instead}"


def _series(
    logdirs: list[Logdir], metric: str, xaxis: str, progress: TextIO | None
) -> Iterator[series.Series | str]:
    """Reads the files in order, in several processes if they are large."""
    paths = [logdir.path / "metrics.jsonl" for logdir in logdirs]
    size = sum(path.stat().st_size for path in paths if path.exists())
    workers = min(os.cpu_count() or 1, 8, len(paths))
    show = _bar(len(paths), progress)
    # Forking needs no guard in the script that calls this, but is not safe everywhere.
    forks = sys.platform == "linux" and "tensorflow" not in sys.modules
    if size < PARALLEL_BYTES or workers < 2 or not forks:
        for done, path in enumerate(paths, 1):
            yield _read_one(path, metric, xaxis)
            show(done)
        return
    import concurrent.futures  # These two would double the time that a table takes to start.
    import multiprocessing

    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
        futures = [pool.submit(_read_one, path, metric, xaxis) for path in paths]
        for done, future in enumerate(futures, 1):
            yield future.result()
            show(done)


def _read_one(path: pathlib.Path, metric: str, xaxis: str) -> series.Series | str:
    """The metric of a file, or why it can't be read."""
    try:
        return series.read(path, metric, xaxis)
    except OSError as error:
        return f"{path} can't be read and is left out: {error.strerror}"


def _bar(total: int, stream: TextIO | None) -> Callable[[int], None]:
    """Draws a progress bar on a terminal, and nothing elsewhere."""
    if stream is None or not stream.isatty():
        return lambda done: None

    def show(done: int) -> None:
        filled = round(30 * done / total)
        end = "\n" if done == total else ""
        print(f"\rreading [{'#' * filled:<30}] {done}/{total} runs", end=end, file=stream,
              flush=True)  # fmt: skip

    return show
