"""MiniGrid and BabyAI (https://minigrid.farama.org): small grid worlds with sparse rewards.

The agent sees an image of the 7 by 7 cells in front of it, at 8 pixels a cell. The text of the
mission is left out, and so is the compass direction: tasks whose goal is given only by the text
(GoToObject, Fetch, most of BabyAI) cannot be solved this way.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from dreamerv2.common.envs import extras
from dreamerv2.common.errors import UserError

# Pixels of a cell, as in the library's own images of what the agent sees.
TILE = 8

_ID = re.compile(r"^(?:MiniGrid-)?(?P<name>.+?)(?:-v(?P<version>\d+))?$")


def constructor(name: str) -> Callable[[], gymnasium.Env]:
    """Make a function that creates an environment.

    Args:
      name: Such as `DoorKey-8x8`: an id without `MiniGrid-` and, for the newest version, without
        the version. Levels of BabyAI keep their first word: `BabyAI-GoToObj`.

    Raises:
      UserError: If there is no such environment, or the library is missing.
    """
    task = f"minigrid_{name}"
    extras.require("minigrid", "minigrid", task)
    spec = gymnasium.spec(_find(name))

    def make() -> gymnasium.Env:
        extras.require("minigrid", "minigrid", task)  # Registers, perhaps in another process.
        try:
            env = gymnasium.make(spec)
        except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"the task {task!r} needs a package that is not installed ({reason}): run python "
                "-m pip install 'minigrid[wfc]'"
            ) from error
        return View(env)

    return make


class View(gymnasium.ObservationWrapper, RecordConstructorArgs):
    """Observe the image of the cells in front of the agent, and nothing else.

    The same as `RGBImgPartialObsWrapper` and `ImgObsWrapper` of the library, which Gymnasium cannot
    make again from what it knows about them.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        RecordConstructorArgs.__init__(self)
        gymnasium.ObservationWrapper.__init__(self, env)
        spaces: Any = env.observation_space
        height, width, _ = spaces["image"].shape
        shape = (height * TILE, width * TILE, 3)
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)

    def observation(self, observation: Any) -> np.ndarray:
        """Replace an observation by the image."""
        world: Any = self.unwrapped
        image: np.ndarray = world.get_frame(tile_size=TILE, agent_pov=True)
        return image


def _find(name: str) -> str:
    """The id in Gymnasium's registry; case does not matter.

    Raises:
      UserError: If there is none.
    """
    known: dict[str, dict[int, str]] = {}
    for env_id in gymnasium.registry:
        if env_id.startswith(("MiniGrid-", "BabyAI-")):
            short, version = _split(env_id)
            known.setdefault(short.lower(), {})[version or 0] = env_id
    short, version = _split(name)
    versions = known.get(short.lower(), {})
    if versions and version is None:
        return versions[max(versions)]
    if version in versions:
        return versions[version]
    if versions:
        mend = f"it has the versions {', '.join(f'v{number}' for number in sorted(versions))}"
    else:
        near = difflib.get_close_matches(short.lower(), known, 3, 0.5)
        names = [f"minigrid_{_split(known[key][max(known[key])])[0]}" for key in near]
        mend = f"did you mean {' or '.join(names)}?" if names else "use minigrid_DoorKey-8x8"
    raise UserError(f"the task 'minigrid_{name}' names an environment that does not exist: {mend}")


def _split(name: str) -> tuple[str, int | None]:
    match: Any = _ID.match(name)
    version = match["version"]
    return match["name"], None if version is None else int(version)
