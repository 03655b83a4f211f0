"""The DeepMind Control Suite (Tunyasuvunakool et al., 2020), with manipulation and locomotion.

Shimmy has an adapter to Gymnasium too. It is not used because importing it imports and registers
all of dm_control, and because it has no images among the observations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from dreamerv2.common.envs import dmc_tasks, extras, rendering
from dreamerv2.common.errors import UserError

# dm_control writes the largest number of MuJoCo where it means infinity.
UNBOUNDED = 1e10


def constructor(
    name: str,
    *,
    action_repeat: int = 1,
    size: tuple[int, int] = (64, 64),
    camera: int = -1,
    image: bool = True,
) -> Callable[[], gymnasium.Env]:
    """Make a function that creates an environment.

    Args:
      name: `<domain>_<task>` of the suite, such as `walker_walk` and `ball_in_cup_catch`;
        `manip_<task>` such as `manip_reach_site`; or `locom_<task>` such as
        `locom_rodent_run_gaps`.
      action_repeat: Environment frames per agent step; one image is rendered for all of them.
      size: Height and width of images.
      camera: Number of the camera, -1 for the usual one of the task.
      image: Render images; without them nothing for rendering needs to be installed.

    Raises:
      UserError: If there is no such task, the library is missing, or rendering does not work; by
        the function, if there is no such camera.
    """
    task = f"dmc_{name}"
    with rendering.switched_off():
        _check_versions(task)
        load = dmc_tasks.find(name, task, image)
    if image:
        rendering.choose(task)

    def make() -> gymnasium.Env:
        with rendering.switched_off():
            env = load()
        return Control(
            env, task=task, action_repeat=action_repeat, size=size, camera=camera, image=image
        )

    return make


class Control(gymnasium.Env):
    """An environment of dm_control behind Gymnasium's interface.

    Observations are the vectors of the environment, float32, without those that are empty, and
    `image`, `(H, W, 3)` uint8. The end of an episode is terminal if its discount is 0; all other
    ends are time limits. Nothing is rendered before the first reset.
    """

    def __init__(
        self,
        env: Any,
        *,
        task: str,
        action_repeat: int = 1,
        size: tuple[int, int] = (64, 64),
        camera: int = -1,
        image: bool = True,
    ) -> None:
        """Wrap an environment.

        Args:
          env: `dm_env.Environment` with a `physics`.
          task: Task name, for errors.
          action_repeat: How often an action is taken in a step; rewards are summed.
          size: Height and width of images.
          camera: Number of the camera, -1 for the usual one of the task.
          image: Render images.

        Raises:
          UserError: If there is no such camera.
        """
        self._env = env
        self._task = task
        self._repeat = action_repeat
        self._size = size
        self._image = image
        self._camera = _camera(env.physics, camera, task) if image else -1
        self._random = env.random_state if _is_composer(env) else env.task.random
        self._started = False
        shapes = {key: spec.shape for key, spec in env.observation_spec().items()}
        self._keys = [key for key, shape in shapes.items() if np.prod(shape)]
        spaces: dict[str, gymnasium.Space[Any]] = {
            key: gymnasium.spaces.Box(-np.inf, np.inf, shapes[key], np.float32)
            for key in self._keys
        }
        if image:
            spaces["image"] = gymnasium.spaces.Box(0, 255, (*size, 3), np.uint8)
        self.observation_space = gymnasium.spaces.Dict(spaces)
        spec = env.action_spec()
        low, high = (np.broadcast_to(x, spec.shape) for x in (spec.minimum, spec.maximum))
        self.action_space = gymnasium.spaces.Box(
            np.where(low <= -UNBOUNDED, -np.inf, low).astype(np.float32),
            np.where(high >= UNBOUNDED, np.inf, high).astype(np.float32),
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode; a seed starts a new sequence of them.

        Raises:
          RuntimeError: If images cannot be rendered in this process.
        """
        super().reset(seed=seed)
        if self._image and not self._started:
            rendering.switch_on(self._task)
        if seed is not None or not self._started:
            self._random.seed(int(self.np_random.integers(2**32, dtype=np.uint64)))
        self._started = True
        return self._observe(self._env.reset().observation), {}

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Take the action `action_repeat` times, or until the end of the episode."""
        reward = 0.0
        for _ in range(self._repeat):
            step = self._env.step(np.asarray(action, np.float64))
            reward += float(step.reward or 0.0)
            if step.last():
                break
        terminated = bool(step.last() and step.discount == 0)
        truncated = bool(step.last() and not terminated)
        return self._observe(step.observation), reward, terminated, truncated, {}

    def close(self) -> None:
        """Free the simulation and its rendering context."""
        env, self._env = self._env, None
        if env is None:
            return
        if _is_composer(env):
            env.close()
        else:
            env.physics.free()  # The suite's own `close` does nothing.

    def _observe(self, observation: Any) -> dict[str, np.ndarray]:
        obs = {key: np.asarray(observation[key], np.float32) for key in self._keys}
        if self._image:
            obs["image"] = self._render()
        return obs

    def _render(self) -> np.ndarray:
        image: np.ndarray = self._env.physics.render(*self._size, camera_id=self._camera)
        return image


def _is_composer(env: Any) -> bool:
    """Whether it is of the newer kind, which manipulation and locomotion are made of."""
    return hasattr(env, "random_state")


def _camera(physics: Any, camera: int, task: str) -> int:
    names = [physics.model.id2name(i, "camera") for i in range(physics.model.ncam)]
    if camera == -1:
        if "quadruped" in task:
            return 2
        # The camera above the whole arena shows the walker a few pixels large.
        return 1 if names[0] == "top_camera" else 0
    if not 0 <= camera < len(names):
        known = ", ".join(f"{i} ({name})" for i, name in enumerate(names))
        raise UserError(
            f"dmc_camera is {camera}, but the task {task!r} has the cameras {known}: use one of "
            "them, or -1 for the usual one"
        )
    return camera


def _check_versions(task: str) -> None:
    extras.require("dm_control", "dmc", task)
    mujoco = extras.require("mujoco", "dmc", task)
    if int(mujoco.__version__.split(".")[0]) > 3:
        raise UserError(
            f"the task {task!r} needs MuJoCo 3, but version {mujoco.__version__} is installed, "
            f"which dm_control does not work with: run {extras.command('dmc')}"
        )
