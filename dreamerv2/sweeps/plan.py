"""Which runs a sweep consists of: tasks times methods times seeds, each in a folder of its own."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dreamerv2 import tasks
from dreamerv2.common import flags, score_data
from dreamerv2.common.aggregate import natural, unknown
from dreamerv2.common.config import Config
from dreamerv2.common.errors import UserError
from dreamerv2.logdir import CONFIGS
from dreamerv2.sweeps import cost

# The method that a variant of this name stands for is the agent as `--configs` says.
NONE = "none"

# Flags of the training program that belong to the sweep, and what to use instead.
_TAKEN = {"task": "--tasks", "seed": "--seeds"}


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of the training program.

    Attributes:
        task: Such as atari_pong.
        method: Name in tables and figures.
        seed: Also its folder.
        logdir: Absolute path, the same on every machine.
        arguments: Of the training program.
        frames: Environment frames when it is complete.
        cost: What it takes.
    """

    task: str
    method: str
    seed: int
    logdir: str
    arguments: tuple[str, ...]
    frames: int
    cost: cost.Cost

    @property
    def name(self) -> str:
        """Task, method and seed, as in the path of the folder."""
        return f"{self.task}/{self.method}/{self.seed}"


def task_sets(data: score_data.Data) -> dict[str, tuple[str, ...]]:
    """Return the lists of tasks that have names.

    Besides those of the score data, `dmc22`: the 20 tasks of the published curves, and two of the
    humanoid.
    """
    sets = dict(data.task_sets)
    sets["dmc22"] = tuple(sorted({*sets["dmc"], "dmc_humanoid_stand", "dmc_humanoid_walk"}))
    return sets


def find_tasks(words: Iterable[str], data: score_data.Data) -> list[str]:
    """Return the tasks that words stand for, each once, in the order of the words.

    Args:
        words: Names of lists, names of tasks, or regular expressions over the known tasks.
        data: What names lists and tasks.

    Raises:
        UserError: A word stands for no task.
    """
    sets = task_sets(data)
    known = sorted({*data.tasks, *(task for members in sets.values() for task in members)})
    found: dict[str, None] = {}
    for word in words:
        if word in sets:
            matches = list(sets[word])
        elif word in known:
            matches = [word]
        else:
            matches = _match(word, known) or [_other(word, known, sets)]
        found.update(dict.fromkeys(matches))
    return list(found)


def _match(word: str, known: Sequence[str]) -> list[str]:
    if re.fullmatch(r"[\w-]+", word):
        return []
    try:
        return sorted((name for name in known if re.fullmatch(word, name)), key=natural)
    except re.error as error:
        raise UserError(f"the regular expression {word!r} of --tasks is wrong: {error}") from None


def _other(word: str, known: Sequence[str], sets: Iterable[str]) -> str:
    """A task of no list, if there is an environment for it here."""
    if not re.fullmatch(r"[\w:/.-]+", word):
        raise UserError(
            f"the regular expression {word!r} of --tasks matches none of the {len(known)} known "
            "tasks, which look like atari_ms_pacman or dmc_walker_walk"
        )
    suite, _, rest = word.partition("_")
    if suite in ("gym", "minigrid", "crafter", "dummy", "atari") and re.fullmatch(r".*\w", rest):
        with tasks.make_env(flags.build(CONFIGS).update({"task": word}), "eval", 0, 1):
            return word
    raise UserError(unknown("task", word, [*known, *sets]))


def find_seeds(words: Iterable[str]) -> list[int]:
    """Return the seeds that words stand for: `5` alone for 1 to 5, `3-7`, or `1 4 9`.

    Raises:
        UserError: A word is neither a number nor a range.
    """
    words = list(words)
    seeds: dict[int, None] = {}
    for word in words:
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise UserError(
                f"--seeds has {word!r}; write a number such as 5 for the seeds 1 to 5, a range "
                "such as 6-10, or several seeds"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if len(words) == 1 and not match[2]:
            first = 1
        seeds.update(dict.fromkeys(range(first, last + 1)))
    if not seeds:
        raise UserError("--seeds is 0, which leaves nothing to do; use 1 or more")
    return list(seeds)


def make(
    folder: pathlib.Path,
    names: Sequence[str],
    seeds: Sequence[int],
    configs: Sequence[str] = (),
    variants: Sequence[str] = (NONE,),
    method: str = "dreamerv2",
    settings: Sequence[str] = (),
) -> tuple[Run, ...]:
    """Return the runs in the order in which they are started: seed by seed.

    Args:
        folder: Of the sweep.
        names: Tasks.
        seeds: Of each task and method.
        configs: Overlays of all runs.
        variants: Overlays of one method each, several joined by `+`, or `none`.
        method: Name of the agent without a variant; others are called `method_variant`.
        settings: Further arguments of the training program.

    Raises:
        UserError: An overlay, a key or a value is wrong, or two methods have one name.
    """
    document = flags.Document.read(CONFIGS)
    overlays, overrides = flags.split(settings)
    for key, _ in overrides:
        if key in _TAKEN:
            raise UserError(f"a sweep has no flag --{key}; use {_TAKEN[key]}")
    if re.fullmatch(r"[\w.+-]+", method) is None:
        raise UserError(f"--method is {method!r}; use letters, digits and any of _ . + -")
    methods: dict[str, Callable[[str, int], Run]] = {}
    for variant in dict.fromkeys(variants):
        parts = [] if variant == NONE else variant.split("+")
        applied = [*configs, *overlays, *parts]
        config = flags.build(document, applied, overrides)
        name = method if variant == NONE else f"{method}_{variant}"
        methods[name] = _maker(folder, name, applied, config, settings)
    result = [methods[name](task, seed) for seed in seeds for task in names for name in methods]
    if not result:
        raise UserError("the sweep has no runs; name tasks with --tasks")
    return tuple(result)


def _maker(
    folder: pathlib.Path, method: str, overlays: list[str], config: Config, settings: Sequence[str]
) -> Callable[[str, int], Run]:
    """A function that makes the runs of one method."""
    rest = _without_configs(settings)
    cached: dict[str, tuple[int, cost.Cost]] = {}

    def make_run(task: str, seed: int) -> Run:
        logdir = folder / task / method / str(seed)
        if task not in cached:
            changed: Any = config.update({"task": task})
            frames = changed.steps * changed.action_repeat
            cached[task] = frames, cost.estimate(overlays, changed)
        arguments = (
            *(("--configs", *overlays) if overlays else ()), *rest,
            "--task", task, "--seed", str(seed), "--logdir", str(logdir),
        )  # fmt: skip
        return Run(task, method, seed, str(logdir), arguments, *cached[task])

    return make_run


def _without_configs(settings: Sequence[str]) -> list[str]:
    """The arguments less `--configs` and its values, which come first."""
    kept, skip = [], False
    for word in settings:
        if word.startswith("--"):
            skip = word.partition("=")[0] == "--configs"
        if not skip:
            kept.append(word)
    return kept
