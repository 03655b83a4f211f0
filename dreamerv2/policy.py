"""A trained agent as a policy: observations of the environment in, its actions out."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from dreamerv2 import custom, spaces_file, tasks
from dreamerv2.common.errors import UserError
from dreamerv2.evaluation import evaluate
from dreamerv2.loading import Run, export_run
from dreamerv2.numpy_model import NumpyModel
from dreamerv2.raw_observations import RawObservations, guess_space


@dataclasses.dataclass(frozen=True)
class Scores:
    """What episodes of an evaluation came to.

    Attributes:
        returns: ``(episodes,)`` float64, the sum of rewards of each.
        lengths: ``(episodes,)`` int64, agent steps of each.
    """

    returns: np.ndarray
    lengths: np.ndarray

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """Standard deviation of the returns."""
        return float(self.returns.std())

    def __str__(self) -> str:
        return f"return {self.mean:.4g} ± {self.std:.2g} over {len(self.returns)} episodes"


class Policy:
    """Acts in one or several environments, remembering what it saw in each.

        policy = dreamerv2.api.load("~/logdir/mine/1")
        obs, info = env.reset()
        policy.reset()
        while True:
            obs, reward, terminated, truncated, info = env.step(policy.act(obs))
            if terminated or truncated:
                break

    Attributes:
        run: What it was loaded from: `config`, `steps`, `frames`, `agent` and so on.
        model: The world model with arrays in and out, see `dreamerv2.numpy_model`.
    """

    def __init__(self, run: Run) -> None:
        """Take the agent of a run.

        Args:
            run: See `dreamerv2.loading.load_run`.
        """
        self.run = run
        encoder = run.agent.world_model.encoder
        self._keys = [*encoder.cnn_keys, *encoder.mlp_keys]
        space = spaces_file.load_env_space(run.path)
        if space is None:
            space = guess_space(run.obs_space)
        self._observations = RawObservations(space, run.config.render_size, self._keys)
        self.model = NumpyModel(run.agent, run.config, run.act_space, self._observations)
        self._state: dict[str, Any] | None = None
        self._first = np.ones(1, bool)

    def reset(self, where: Any = None, *, seed: int | None = None) -> None:
        """Forget what was seen; to be called when episodes begin.

        Args:
            where: ``(N,)`` bool, in which of the environments an episode begins with the next
                observation. By default in all, and their number may change.
            seed: Restarts the random numbers of mode eval, so that the same observations lead to
                the same actions.

        Raises:
            UserError: `where` has another length than the last observations.
        """
        if seed is not None:
            self.run.agent.seed_evaluation(seed)
        if where is None:
            self._state = None
            return
        mask = np.asarray(where)
        if mask.dtype != bool or mask.ndim > 1:
            raise UserError(
                f"where is {where!r}; it must be an array of bool, one for each environment."
            )
        if self._state is not None:
            if mask.size != len(self._first):
                raise UserError(
                    f"where has {mask.size} entries, but the policy remembers {len(self._first)} "
                    "environments; reset() without arguments forgets all of them."
                )
            self._first = self._first | mask.reshape(-1)

    def act(self, obs: Any, mode: str = "eval") -> Any:
        """Choose actions for what is observed now, which is remembered for the next call.

        Args:
            obs: An observation as the environment gives it, an array or a dict, or those of N
                environments, each array of it ``(N, ...)``.
            mode: `eval` takes the most likely action, `train` draws one as training does.

        Returns:
            The action for `env.step`: an int or an array; for N environments an array ``(N, ...)``.

        Raises:
            UserError: The observation does not fit the environment of the run, or N changed
                without `reset`.
        """
        data, lead = self._observations(obs, (0, 1))
        num = lead[0] if lead else 1
        if self._state is None:
            self._state, self._first = self.run.agent.initial(num), np.ones(num, bool)
        elif num != len(self._first):
            raise UserError(
                f"there are observations of {num} environments, but the policy remembers "
                f"{len(self._first)}; call reset() before their number changes."
            )
        off = np.zeros(num, bool)
        batch: dict[str, Any] = {
            **data,
            "reward": np.zeros(num, np.float32),
            "is_first": self._first,
            "is_last": off,
            "is_terminal": off,
        }
        vectors, self._state = self.run.agent.policy(batch, self._state, mode)
        self._first = off.copy()
        actions = self.run.act_space.to_env(vectors.numpy())
        if lead:
            return actions
        return actions[0] if self.run.act_space.shape else int(actions[0])

    @property
    def state(self) -> dict[str, np.ndarray]:
        """Latent state ``(N, ...)`` after the last `act`, as the methods of `model` take it.

        Raises:
            UserError: Nothing has been observed since `reset`.
        """
        if self._state is None:
            raise UserError("the policy has seen nothing since reset(); call act(obs) first.")
        feat = self.run.agent.world_model.rssm.get_feat(self._state)
        tensors = {**self._state, "feat": feat}
        return {k: np.asarray(v, np.float32) for k, v in tensors.items() if k != "action"}

    def evaluate(
        self, env: Any = None, episodes: int = 10, *, seed: int = 0, num: int = 1
    ) -> Scores:
        """Play whole episodes, with the settings of the run, as evaluations during training do.

        Args:
            env: An environment, which stays open, or a function that makes one; by default the
                task of the run.
            episodes: Number of episodes.
            seed: Of environments, latents and actions. The same seed gives the same scores, and
                restarts the random numbers of `act` in mode eval.
            num: Environments stepped together.

        Raises:
            UserError: The environment is not of the kind that the agent was made for.
        """
        run = self.run
        if env is None and run.config.task.startswith(tasks.CUSTOM):
            raise UserError(
                f"the run is of {run.config.task!r}, an environment that dreamerv2.api.train was "
                "given; pass it to evaluate()."
            )
        if episodes < 1:
            raise UserError(f"episodes is {episodes}; play at least one.")
        if env is None:
            made = tasks.make_env(run.config, "eval", seed, num=num)
        else:
            made = custom.make_env(env, run.config, seed, num=num, parallel="none")
        with made:
            custom.require_spaces(made, run.obs_space, run.act_space, self._keys)
            played = evaluate(run.agent, made, episodes, seed)
        rewards = [episode["reward"].astype(np.float64) for episode in played]
        return Scores(
            np.array([reward.sum() for reward in rewards]),
            np.array([len(reward) - 1 for reward in rewards]),
        )

    def export(self, folder: str | os.PathLike[str]) -> None:
        """Write a small copy of the run to give away: settings, spaces and weights.

        All that plays, evaluates and dreams takes its folder for a logdir; training cannot go on
        there.

        Args:
            folder: Is made, and must not hold anything yet.

        Raises:
            UserError: The folder holds something already.
        """
        export_run(self.run, folder)
