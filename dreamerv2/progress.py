"""How far a run has come, and when what is due."""

from __future__ import annotations

from typing import Any

from dreamerv2.cluster import ALONE, Cluster
from dreamerv2.common.clock import Every
from dreamerv2.common.config import Config
from dreamerv2.common.errors import UserError
from dreamerv2.common.successes import Successes


class Progress:
    """Counters and triggers of a run.

    Args:
        config: Of the run.
        cluster: The workers of the run. All numbers are those of the whole run: a step of this
            worker counts for one of each, as all keep the same pace.

    Attributes:
        steps: Agent steps.
        collected: Those of this worker, as its replay counts them.
        updates: Updates made.
        due: Updates that are still to make for the steps so far.
        pretrained: Whether the updates before the first chosen action are among those.
        best: Highest mean return of an evaluation, and the frame of it.
        successes: Of the training episodes so far, by the keys `log_keys_success`.
        should_train: Is due every `train_every` agent steps; and so on.
        should_save: Is due every `save_every` seconds of this process.
        unsaved: It was due, and the state has not been fit to be saved since.
    """

    def __init__(self, config: Config, cluster: Cluster = ALONE) -> None:
        self._action_repeat = config.action_repeat
        self._workers = cluster.num
        self.steps = 0
        self.collected = 0
        self.updates = 0
        self.due = 0
        self.pretrained = False
        self.best: dict[str, float] = {}
        self.successes = Successes(config.log_keys_success)
        self.should_train = Every(config.train_every)
        self.should_log = Every(config.log_every)
        evaluates = config.eval_eps and cluster.leads
        self.should_eval = Every(config.eval_every if evaluates else 0)
        self.should_save = Every(config.save_every)
        self.unsaved = False

    @property
    def frames(self) -> int:
        """Environment frames."""
        return self.steps * self._action_repeat

    @property
    def filled(self) -> int:
        """Agent steps that the replays hold or held, if those of all workers are like this one's.

        That is `steps`, but for a worker that joined a run, or one of fewer than there were.
        """
        return self.collected * self._workers

    def take(self, steps: int) -> None:
        """Count agent steps of this worker."""
        self.collected += steps
        self.steps += steps * self._workers

    def fill(self, steps: int) -> None:
        """Count agent steps of this worker that its replay lacked, as those of the others hold."""
        self.collected += steps
        self.steps = max(self.steps, self.filled)

    def recount(self, collected: int) -> None:
        """Count what the replay holds after `restore`: after a kill it is newer."""
        self.take(collected - self.collected)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of this."""
        return {
            **self.common(),
            "collected": self.collected,
            "best": self.best,
            "successes": self.successes.state(),
        }

    def common(self) -> dict[str, Any]:
        """Return the part of `state` that is the same for all workers."""
        return {
            "steps": self.steps,
            "updates": self.updates,
            "due": self.due,
            "pretrained": self.pretrained,
            "train": self.should_train.state(),
            "log": self.should_log.state(),
            "eval": self.should_eval.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take what `state` gave."""
        self.join(state)
        self.collected = state.get("collected", self.steps)
        self.best = state["best"]
        if "successes" in state:  # Missing where nothing was counted so far.
            self.successes.restore(state["successes"])

    def join(self, state: dict[str, Any]) -> None:
        """Take what `common` gave."""
        self.steps = state.get("steps", 0)  # Missing where the replay alone counted them.
        self.updates = state["updates"]
        self.due = state["due"]
        self.pretrained = state.get("pretrained", True)  # Missing where it is long past.
        self.should_train.restore(state["train"])
        self.should_log.restore(state["log"])
        self.should_eval.restore(state["eval"])


def check_prefill(config: Config, workers: int = 1) -> None:
    """Refuse a prefill that is too short to draw a sequence from.

    Args:
        config: Of the run.
        workers: Processes that collect, each in its own environments and replay.

    Raises:
        UserError: It is.
    """
    needed = config.dataset.length * config.envs * workers
    if config.prefill < needed:
        where = f"{config.envs} environments" + (f" of {workers} workers" if workers > 1 else "")
        raise UserError(
            f"prefill is {config.prefill}, but sequences of dataset.length {config.dataset.length} "
            f"from {where} need {needed} agent steps; use at least that many."
        )
