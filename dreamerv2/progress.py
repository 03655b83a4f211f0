"""How far a run has come, and when what is due."""

from __future__ import annotations

from typing import Any

from dreamerv2.common.clock import Every
from dreamerv2.common.config import Config
from dreamerv2.common.errors import UserError
from dreamerv2.common.successes import Successes


class Progress:
    """Counters and triggers of a run; all but `steps` are part of a checkpoint.

    Attributes:
        steps: Agent steps. They come from the replay, which is newer than the checkpoint after
            a kill.
        updates: Updates made.
        due: Updates that are still to make for the steps so far.
        pretrained: Whether the updates before the first chosen action are among those.
        best: Highest mean return of an evaluation, and the frame of it.
        successes: Of the training episodes so far, by the keys `log_keys_success`.
        should_train: Is due every `train_every` agent steps; and so on.
        should_save: Is due every `save_every` seconds of this process.
        unsaved: It was due, and the state has not been fit to be saved since.
    """

    def __init__(self, config: Config) -> None:
        self._action_repeat = config.action_repeat
        self.steps = 0
        self.updates = 0
        self.due = 0
        self.pretrained = False
        self.best: dict[str, float] = {}
        self.successes = Successes(config.log_keys_success)
        self.should_train = Every(config.train_every)
        self.should_log = Every(config.log_every)
        self.should_eval = Every(config.eval_every if config.eval_eps else 0)
        self.should_save = Every(config.save_every)
        self.unsaved = False

    @property
    def frames(self) -> int:
        """Environment frames."""
        return self.steps * self._action_repeat

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of this."""
        return {
            "steps": self.steps,
            "updates": self.updates,
            "due": self.due,
            "pretrained": self.pretrained,
            "best": self.best,
            "successes": self.successes.state(),
            "train": self.should_train.state(),
            "log": self.should_log.state(),
            "eval": self.should_eval.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take what `state` gave, but for the steps."""
        self.updates = state["updates"]
        self.due = state["due"]
        self.pretrained = state.get("pretrained", True)  # Missing where it is long past.
        self.best = state["best"]
        if "successes" in state:  # Missing where nothing was counted so far.
            self.successes.restore(state["successes"])
        self.should_train.restore(state["train"])
        self.should_log.restore(state["log"])
        self.should_eval.restore(state["eval"])


def check_prefill(config: Config) -> None:
    """Refuse a prefill that is too short to draw a sequence from.

    Raises:
        UserError: It is.
    """
    needed = config.dataset.length * config.envs
    if config.prefill < needed:
        raise UserError(
            f"prefill is {config.prefill}, but sequences of dataset.length {config.dataset.length} "
            f"from {config.envs} environments need {needed} agent steps; use at least that many."
        )
