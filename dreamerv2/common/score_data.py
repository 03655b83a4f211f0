"""Score data: the runs and references that the project ships, and how they are read.

The schema is described in `scores/README.md`. Everything is checked when it is read, so that what
uses the data need not.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dreamerv2.common.errors import UserError
from dreamerv2.common.files import read_bytes

# Far above what the shipped files hold.
MOST_BYTES = 1 << 27

FORMAT = "dreamerv2-scores"
VERSION = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One training run: returns over environment frames.

    Attributes:
      suite: The first part of the task's name.
      task: Such as atari_pong.
      method: Such as dreamerv2.
      seed: Tells apart the runs of one method on one task.
      frames: (N,) float64, increasing; where each bin ends, in environment frames.
      returns: (N,) float64, finite; mean return of the episodes in each bin.
      source: Key of where the run comes from, or the folder of one's own run.
      final: The only bin is a published final score, which stands for several seeds.
    """

    suite: str
    task: str
    method: str
    seed: int | str
    frames: np.ndarray
    returns: np.ndarray
    source: str
    final: bool = False


@dataclasses.dataclass(frozen=True)
class Method:
    """What is known of a method: its printed name, its protocol, the key of its source."""

    label: str
    protocol: str
    source: str


@dataclasses.dataclass(frozen=True)
class Data:
    """Runs and what is needed to make sense of them.

    Attributes:
      runs: In the order of their files.
      references: Task -> name -> score. The names are random, gamer and record for Atari, minimum
        and maximum for control; a task has those that are known.
      methods: By name.
      task_sets: Sorted tasks by the name of the set.
      sources: By key: title, url, licence and corrections.
      paper: The printed tables: name -> columns, rows (row -> list of values).
    """

    runs: tuple[Run, ...]
    references: Mapping[str, Mapping[str, float]]
    methods: Mapping[str, Method]
    task_sets: Mapping[str, tuple[str, ...]]
    sources: Mapping[str, Mapping[str, Any]]
    paper: Mapping[str, Mapping[str, Any]]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task that has a run or a reference, sorted."""
        return tuple(sorted({run.task for run in self.runs} | set(self.references)))

    def select(
        self, tasks: Iterable[str] | None = None, methods: Iterable[str] | None = None
    ) -> list[Run]:
        """The runs of these tasks and methods; None stands for all of them."""
        chosen_tasks = None if tasks is None else set(tasks)
        chosen_methods = None if methods is None else set(methods)
        return [
            run
            for run in self.runs
            if (chosen_tasks is None or run.task in chosen_tasks)
            and (chosen_methods is None or run.method in chosen_methods)
        ]

    def label(self, method: str) -> str:
        """The printed name of a method, which is the name itself for one's own."""
        return self.methods[method].label if method in self.methods else method


def folder() -> pathlib.Path:
    """The folder of the shipped data: inside the package once installed, else beside it.

    Raises:
      UserError: There is none.
    """
    package = pathlib.Path(__file__).resolve().parent.parent
    for path in (package / "scores", package.parent / "scores"):
        if (path / "index.json").is_file():
            return path
    raise UserError(f"the score data is neither in {package} nor beside it; reinstall the package")


def load(path: pathlib.Path | None = None) -> Data:
    """Reads and checks score data.

    Args:
      path: A folder in the schema; by default the data that the project ships.

    Returns:
      All runs, references and tables of the folder.

    Raises:
      UserError: A file is missing or not as the schema says; the message names the file.
    """
    path = folder() if path is None else path
    index = _read(path / "index.json")
    with _checking(path / "index.json"):
        methods = {name: Method(**fields) for name, fields in index["methods"].items()}
        task_sets = {name: tuple(tasks) for name, tasks in index["task_sets"].items()}
        sources = {
            name: {key: source[key] for key in ("title", "url", "licence", "corrections")}
            for name, source in index["sources"].items()
        }
        for name, method in methods.items():
            _expect(method.source in sources, f"the source of {name} is not listed")
        names = [str(name) for name in index["runs"]]
        others = (path / index["references"], path / index["paper"])
    runs: list[Run] = []
    for name in names:
        content = _read(path / name, "runs")
        with _checking(path / name):
            _expect(content["source"] in sources, "its source is not listed")
            runs += [_run(fields, content["source"]) for fields in content["runs"]]
    with _checking(path / "index.json"):
        seen = {(run.task, run.method, run.seed) for run in runs}
        _expect(len(seen) == len(runs), "two runs have the same task, method and seed")
        _expect({run.method for run in runs} <= set(methods), "a run's method is not listed")
        with_runs = {run.task for run in runs}
        for name, tasks in task_sets.items():
            _expect(set(tasks) <= with_runs, f"the task set {name} has a task without runs")
    references, paper = _references(others[0]), _paper(others[1])
    return Data(tuple(runs), references, methods, task_sets, sources, paper)


def _run(fields: Mapping[str, Any], source: str) -> Run:
    """A run of a file, checked."""
    names = {key: fields[key] for key in ("suite", "task", "method")}
    label = "{task} {method} {seed}".format(**fields)
    returns = np.array(fields["returns"], np.float64)
    frames = fields["frames"]
    if isinstance(frames, dict):
        frames = frames["first"] + frames["every"] * np.arange(len(returns), dtype=np.float64)
    else:
        frames = np.array(frames, np.float64)
    _expect(all(isinstance(name, str) for name in names.values()), f"a name of {label} is no text")
    _expect(names["task"].startswith(names["suite"] + "_"), f"{label} is not of its suite")
    _expect(returns.ndim == 1 and returns.size > 0, f"{label} has no list of returns")
    _expect(frames.shape == returns.shape, f"{label} has other frames than returns")
    _expect(frames[0] > 0 and bool((np.diff(frames) > 0).all()), f"the frames of {label} go back")
    _expect(bool(np.isfinite(returns).all()), f"{label} has a return that is not finite")
    final = bool(fields.get("final", False))
    _expect(not final or returns.size == 1, f"{label} is final but has several bins")
    return Run(seed=fields["seed"], frames=frames, returns=returns, source=source, final=final,
               **names)  # fmt: skip


def _references(path: pathlib.Path) -> dict[str, dict[str, float]]:
    """Reference scores of all suites by task and name."""
    content = _read(path, "references")
    result: dict[str, dict[str, float]] = {}
    with _checking(path):
        for suite in content["suites"].values():
            for task, scores in suite["tasks"].items():
                result[task] = {str(name): float(score) for name, score in scores.items()}
                values = list(result[task].values())
                _expect(bool(np.isfinite(values).all()), f"a score of {task} is not finite")
    return result


def _paper(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """The printed tables by name."""
    content = _read(path, "paper")
    names = [name for name in content if isinstance(content[name], dict)]
    with _checking(path):
        for name in names:
            for row, values in content[name]["rows"].items():
                wide = len(values) == len(content[name]["columns"])
                _expect(wide, f"row {row} of {name} has other columns than its table")
    return {name: content[name] for name in names}


def _read(path: pathlib.Path, kind: str | None = None) -> dict[str, Any]:
    """The content of a JSON file, compressed or not, whose head is checked."""
    try:
        content = json.loads(read_bytes(path, MOST_BYTES))
    except (UserError, RecursionError, ValueError) as error:
        raise UserError(f"the score data {path} can't be read: {error}; reinstall it") from error
    with _checking(path):
        _expect(content["format"] == FORMAT, f"it is not {FORMAT}")
        version = content["version"]
        _expect(version == VERSION, f"it has version {version}, but this program reads {VERSION}")
        _expect(kind is None or content["kind"] == kind, f"it does not hold {kind}")
    return content


class _checking:
    """Turns whatever goes wrong while a file's content is used into a sentence with its name."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyError):
            raise UserError(f"the score data {self._path} has no {error}; reinstall it") from error
        if isinstance(
            error, ArithmeticError | LookupError | TypeError | ValueError | AttributeError
        ):
            raise UserError(f"the score data {self._path} is wrong: {error}") from error


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)
