"""Lets a user's own code look on while an agent trains, log, save, and end the run.

    class Target(Callback):
        def on_evaluation(self, run, episodes):
            returns = [episode["reward"].sum() for episode in episodes]
            run.log("worst_return", min(returns))
            return min(returns) < 100  # False ends the run.

Hooks are called between agent steps, never in the middle of one: whatever a hook does, the run can
be saved. An exception in a hook ends the run; it is saved first, so that training can go on once
the hook is mended.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from dreamerv2.common.config import Config
from dreamerv2.common.errors import UserError

Episode = Mapping[str, np.ndarray]


class RunView(Protocol):
    """What hooks see of a run; the same object at every call."""

    @property
    def config(self) -> Config:
        """All settings."""

    @property
    def logdir(self) -> pathlib.Path:
        """Folder of the run."""

    @property
    def steps(self) -> int:
        """Agent steps so far."""

    @property
    def frames(self) -> int:
        """Environment frames so far: agent steps times `action_repeat`."""

    @property
    def updates(self) -> int:
        """Updates of the networks so far."""

    @property
    def agent(self) -> Any:
        """The `dreamerv2.agent.Agent` that is being trained."""

    def log(self, name: str, value: float) -> None:
        """Add a number to the next line of metrics; several under one name are averaged."""

    def save(self) -> None:
        """Write a checkpoint and wait until it is complete."""


class Callback:
    """Base class whose hooks do nothing; override those of interest.

    A hook that returns False ends the run after saving it; None and 0 do not.
    """

    def on_start(self, run: RunView) -> bool | None:
        """Called once, before the first step that this process takes."""

    def on_step(self, run: RunView) -> bool | None:
        """Called after every step of the environments, while the replay is prefilled, too."""

    def on_episode(self, run: RunView, episode: Episode) -> bool | None:
        """Called after every training episode.

        Args:
            run: The run.
            episode: Arrays ``(T, ...)``, T being one more than the agent steps of the episode:
                `reward`, the first frames of the images in `log_keys_video`, and the keys
                chosen by `log_keys_sum`, `log_keys_mean` and `log_keys_max`.
        """

    def on_update(self, run: RunView) -> bool | None:
        """Called after every update of the networks."""

    def on_evaluation(self, run: RunView, episodes: list[Episode]) -> bool | None:
        """Called after every evaluation, with its episodes as `on_episode` gets them."""

    def on_log(self, run: RunView, metrics: Mapping[str, float]) -> bool | None:
        """Called with every line of metrics, after it was written."""

    def on_end(self, run: RunView) -> bool | None:
        """Called once, when nothing is left to do or something ended the run, before saving."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))
Callbacks = Callback | Callable[[RunView], Any] | Iterable[Callback | Callable[[RunView], Any]]


class Hooks:
    """Calls the hooks of all callbacks, and remembers whether one of them wants the run to end.

    Attributes:
        stopped: A hook returned False.
        failed: A hook raised an exception.
    """

    def __init__(self, callbacks: Callbacks = ()) -> None:
        """Collect the hooks that are overridden; the others cost nothing.

        Args:
            callbacks: One or several; a plain function is an `on_step`.

        Raises:
            UserError: Something else is among them.
        """
        self.stopped = self.failed = False
        self._hooks: dict[str, list[Callable[..., Any]]] = {name: [] for name in HOOKS}
        self._episodes: list[Episode] = []
        several = isinstance(callbacks, Iterable) and not callable(callbacks)
        for callback in callbacks if several else [callbacks]:  # type: ignore[union-attr]
            self._add(callback)

    def _add(self, callback: Any) -> None:
        if isinstance(callback, type):
            raise UserError(
                f"the callback {callback.__name__} is a class; write {callback.__name__}() to "
                "pass an object of it."
            )
        if isinstance(callback, Callback):
            for name in HOOKS:
                if getattr(type(callback), name) is not getattr(Callback, name):
                    self._hooks[name].append(getattr(callback, name))
            self._refuse_unknown(callback)
        elif callable(callback):
            self._hooks["on_step"].append(callback)
        else:
            raise UserError(
                f"a callback is of the type {type(callback).__name__}; derive it from "
                "dreamerv2.api.Callback, or pass a function of one argument."
            )

    def _refuse_unknown(self, callback: Callback) -> None:
        for name in dir(callback):
            if name.startswith("on_") and name not in HOOKS:
                raise UserError(
                    f"the callback {type(callback).__name__} has a hook {name}, which nothing "
                    f"calls; the hooks are {', '.join(HOOKS)}."
                )

    def __contains__(self, name: str) -> bool:
        """Return whether any callback has this hook."""
        return bool(self._hooks[name])

    def __call__(self, name: str, run: RunView, *args: Any) -> None:
        """Call a hook of all callbacks."""
        for hook in self._hooks[name]:
            try:
                result = hook(run, *args)
                # Comparisons of NumPy numbers give NumPy's own False.
                if isinstance(result, (bool, np.bool_)) and not result:
                    self.stopped = True
            except Exception:
                self.failed = True
                raise

    def keep(self, episode: Episode) -> None:
        """Remember an episode that ends in the middle of a step, for the next `step`."""
        if self._hooks["on_episode"]:
            self._episodes.append(episode)

    def step(self, run: RunView) -> None:
        """Report a step, and before it the episodes that ended with it."""
        if self._episodes:
            episodes, self._episodes = self._episodes, []
            for episode in episodes:
                self("on_episode", run, episode)
        self("on_step", run)


class LogHook:
    """An output of the logger that hands metrics to the hooks."""

    def __init__(self, hooks: Hooks, run: RunView) -> None:
        self._hooks, self._run = hooks, run

    def write(
        self,
        step: int,
        scalars: Mapping[str, float],
        images: Mapping[str, np.ndarray],
        videos: Mapping[str, np.ndarray],
    ) -> None:
        """Call `on_log`, if there are scalars."""
        if scalars:
            self._hooks("on_log", self._run, dict(scalars))

    def close(self) -> None:
        """Do nothing."""
