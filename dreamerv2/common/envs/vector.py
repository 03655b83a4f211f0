"""One face for Gymnasium's vector environments: dicts of arrays in, dicts of arrays out."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dreamerv2.common.envs.spaces import ActSpec, EnvError, ObsSpec, act_spec
from dreamerv2.common.errors import UserError

Batch = dict[str, np.ndarray]


class VecEnv:
    """Several copies of an environment that are stepped together.

    The step after the end of an episode resets that environment: its action is ignored, its
    reward is 0 and `is_first` is set (Gymnasium's autoreset mode `NEXT_STEP`).

    Attributes:
      name: Task name.
      num: Number of environments, N.
      obs_space: Specs of the observation keys, without the batch dimension.
      act_space: Spec of the action vector of length A.
      action_repeat: Environment frames per agent step.
      env_space: Gymnasium observation space of one environment before it is translated to
        `obs_space`; None if there is no such thing.
    """

    def __init__(
        self,
        vector: Any,
        *,
        name: str,
        obs_space: dict[str, ObsSpec],
        act_space: ActSpec,
        seeds: Any,
        action_repeat: int = 1,
        convert: Callable[[Any], Batch] | None = None,
        env_space: Any = None,
    ) -> None:
        """Put the face onto a vector environment whose autoreset mode is `NEXT_STEP`.

        Args:
          vector: `gymnasium.vector.VectorEnv`.
          name: Task name, for errors.
          obs_space: Specs of the observation keys.
          act_space: Spec of the action vector.
          seeds: One per environment, as `vector.reset` takes them; used by the first reset only.
          action_repeat: Environment frames per agent step.
          convert: From what `vector` observes to a dict of `(N, ...)` arrays; by default it
            observes such a dict.
          env_space: Observation space of one environment as it comes.
        """
        from gymnasium.vector import AutoresetMode

        mode = vector.metadata["autoreset_mode"]
        if mode != AutoresetMode.NEXT_STEP:
            raise ValueError(f"the autoreset mode must be NEXT_STEP, not {mode}")
        self.name = name
        self.num: int = vector.num_envs
        self.obs_space = obs_space
        self.act_space = act_space
        self.action_repeat = action_repeat
        self.env_space = env_space
        self._vector = vector
        self._convert = convert
        self._seeds = seeds
        self._is_last = np.zeros(self.num, bool)
        self._steps = np.zeros(self.num, np.int64)
        self._started = self._broken = self._closed = False

    def reset(self) -> Batch:
        """Start new episodes everywhere; the first call seeds the environments.

        Returns:
          The batch: observation keys, `reward` float32, `is_first`, `is_last`, `is_terminal`
          bool, each `(N, ...)`.

        Raises:
          EnvError: If an environment failed or gave values that are not finite.
        """
        seeds, self._seeds = self._seeds, None
        obs, _ = self._call(lambda: self._vector.reset(seed=seeds))
        self._started = True
        self._steps[:] = 0
        off = np.zeros(self.num, bool)
        return self._batch(obs, np.zeros(self.num), ~off, off, off.copy())

    def step(self, actions: np.ndarray) -> Batch:
        """Take one agent step in every environment, or reset it if its episode has ended.

        Args:
          actions: `(N, A)` float32.

        Returns:
          The batch as `reset` gives it.

        Raises:
          ValueError: If the actions have another shape.
          EnvError: If an environment failed or gave values that are not finite.
        """
        if np.shape(actions) != (self.num, self.act_space.dim):
            raise ValueError(
                f"actions must have the shape ({self.num}, {self.act_space.dim}) but have the "
                f"shape {np.shape(actions)}"
            )
        if not self._started:
            raise RuntimeError("call reset() before step()")
        is_first = self._is_last
        values = self.act_space.to_env(actions)
        obs, reward, terminated, truncated, _ = self._call(lambda: self._vector.step(values))
        self._steps = np.where(is_first, 0, self._steps + 1)
        reward = np.where(is_first, 0.0, reward)
        terminated = np.asarray(terminated, bool)
        return self._batch(obs, reward, is_first, terminated | truncated, terminated)

    def close(self) -> None:
        """Close the environments and end their processes; further calls do nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            # After a failure the pipes to the workers are out of step: asking could hang.
            if self._broken and self.processes:
                self._vector.close(terminate=True)
            else:
                self._vector.close()
        finally:
            self._vector.closed = True

    @property
    def processes(self) -> Sequence[Any]:
        """The worker processes; none if the environments are in this one."""
        return getattr(self._vector, "processes", [])

    def __enter__(self) -> VecEnv:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def _call(self, function: Callable[[], Any]) -> Any:
        if self._closed:
            raise EnvError(f"the environment {self.name!r} has been closed")
        try:
            return function()
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            self._broken = True
            raise EnvError(
                f"a worker process of the environment {self.name!r} died without an error "
                f"message{self._causes_of_death()}, perhaps for lack of memory"
            ) from error
        except multiprocessing.TimeoutError as error:
            self._broken = True
            raise EnvError(
                f"environment {error.args[0]} of {self.name!r} has not answered for "
                f"{self._vector.timeout:g} seconds since step {self._steps[error.args[0]]} of its "
                "episode: mend what it waits for, or raise envs_timeout"
            ) from error
        except BaseException:
            self._broken = True
            raise

    def _causes_of_death(self) -> str:
        for process in self.processes:
            process.join(0.1)  # The pipe closes a little earlier than the process ends.
        codes = [process.exitcode for process in self.processes]
        found = [f"{i} by status {code}" for i, code in enumerate(codes) if code is not None]
        return f" (environment {', '.join(found)})" if found else ""

    def _batch(
        self, obs: Any, reward: Any, is_first: np.ndarray, is_last: np.ndarray, end: np.ndarray
    ) -> Batch:
        batch = dict(obs) if self._convert is None else self._convert(obs)
        batch = {key: batch[key] for key in self.obs_space}
        with np.errstate(over="ignore"):  # Becomes infinite, which is refused below.
            batch["reward"] = np.asarray(reward, np.float32)
        self._check_finite(batch)
        self._is_last = is_last
        return {**batch, "is_first": is_first, "is_last": is_last.copy(), "is_terminal": end}

    def _check_finite(self, batch: Batch) -> None:
        for key, value in batch.items():
            if value.dtype != np.uint8 and not np.isfinite(value).all():
                axes = tuple(range(1, value.ndim))
                index = int(np.argmin(np.isfinite(value).all(axis=axes)))
                self._broken = True
                raise EnvError(
                    f"environment {index} of {self.name!r} gave a value of {key!r} that is not "
                    f"finite at step {self._steps[index]} of its episode"
                )


def env_seeds(seed: int, num: int) -> list[int]:
    """Independent seeds of `num` environments, each in [0, 2^31)."""
    children = np.random.SeedSequence(seed).spawn(num)
    return [int(child.generate_state(1)[0]) >> 1 for child in children]


def vectorize(
    constructors: Sequence[Callable[[], Any]],
    *,
    name: str,
    parallel: str,
    seed: int,
    action_repeat: int,
    timeout: float = 0,
) -> VecEnv:
    """Step environments one after another or in one process each.

    Args:
      constructors: Give `FlatObservation` environments; one per environment.
      name: Task name.
      parallel: `none` or `process`.
      seed: Of the whole run.
      action_repeat: Environment frames per agent step.
      timeout: Seconds that a step, a reset or the start of a process may take; 0 is no limit.

    Raises:
      UserError: From the constructors, or the environments have different spaces.
      EnvError: If the worker processes do not start.
    """
    from gymnasium.vector import AutoresetMode, SyncVectorEnv

    probe = constructors[0]()
    specs = dict(probe.specs)
    act_space = act_spec(probe.action_space, name)
    env_space = probe.env.observation_space
    vector: Any
    try:
        if parallel == "process":
            from dreamerv2.common.envs.workers import WorkerEnvs

            probe.close()
            vector = WorkerEnvs(constructors, timeout)
        else:
            # The probe becomes the first environment, so that nothing is built twice.
            vector = SyncVectorEnv(
                [lambda: probe, *constructors[1:]], autoreset_mode=AutoresetMode.NEXT_STEP
            )
    except TimeoutError as error:
        raise EnvError(
            f"the worker processes of the environment {name!r} did not start within {timeout:g} "
            "seconds: mend what they wait for, or raise envs_timeout"
        ) from error
    except (EOFError, BrokenPipeError, ConnectionResetError) as error:
        raise EnvError(
            f"the worker processes of the environment {name!r} did not start; if the error "
            "above speaks of bootstrapping, create the environments below "
            "`if __name__ == '__main__':`, because every worker imports the script"
        ) from error
    except EnvError:
        raise
    except (RuntimeError, AssertionError) as error:  # From Gymnasium.
        raise UserError(
            f"the environments of {name!r} do not all have the same spaces: make their function "
            f"return one kind of environment ({' '.join(str(error).split())[:200]})"
        ) from error
    made = getattr(vector, "envs", [])
    if len({id(env.unwrapped) for env in made}) < len(made):
        raise UserError(
            f"the function for the environment {name!r} returned the same object twice: it "
            "must create a new environment at every call"
        )
    return VecEnv(
        vector,
        name=name,
        obs_space=specs,
        act_space=act_space,
        seeds=env_seeds(seed, len(constructors)),
        action_repeat=action_repeat,
        env_space=env_space,
    )
