"""Atari games by the protocol of Machado et al. (2018), https://arxiv.org/abs/1709.06009.

Sticky actions, an action repeated for `action_repeat` frames with the maximum over the last two,
at most 108,000 frames an episode, no information about lives (an episode ends when the game is
over), rewards as the game gives them, no button pressed on the player's behalf.

The screen is processed by Gymnasium's `AtariPreprocessing` (environments one after another or in
processes) or inside ALE's own threads (`native`). Both give the same images for the same seed and
actions, sticky ones included. What differs between them: the number of no-ops, drawn by each with
random numbers of its own, 1 to `noops` in the former and 0 to `noops` in the latter; and the last
image of an episode that the time limit ends, which in the latter lacks the very last frame.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import numpy as np

from dreamerv2.common.envs.spaces import ActSpec, ObsSpec
from dreamerv2.common.envs.vector import VecEnv, env_seeds
from dreamerv2.common.errors import UserError

FRAMES = 108_000

# The cartridges of these games are for two players only.
TWO_PLAYERS = ("combat", "joust", "maze_craze", "warlords")


def games() -> list[str]:
    """Names of all games, in lower snake case."""
    from ale_py import roms

    return sorted(set(roms.get_all_rom_ids()) - set(TWO_PLAYERS))


def rom(game: str) -> str:
    """Find the cartridge of a game; underscores and case do not matter.

    Raises:
      UserError: If there is no such game.
    """
    known = {name.replace("_", ""): name for name in games()}
    plain = game.replace("_", "").lower()
    if plain in known:
        return known[plain]
    near = [f"atari_{known[name]}" for name in difflib.get_close_matches(plain, known, 3, 0.5)]
    mend = f"did you mean {' or '.join(near)}?" if near else "names look like atari_ms_pacman"
    raise UserError(f"the task 'atari_{game}' names a game that ALE does not have: {mend}")


def emulator_seed(seed: int) -> int:
    """Seed of the emulator, thus of sticky actions, for the seed of an environment.

    That is what ALE's own environment takes, without the sign: its vector environment would take
    a negative seed for none.
    """
    return int(np.random.SeedSequence(seed).generate_state(2)[1]) & 0x7FFFFFFF


def step_limit(action_repeat: int, time_limit: int) -> int:
    """Agent steps of the longest episode: `time_limit` or 108,000 frames, what comes first."""
    limit = max(1, FRAMES // action_repeat)
    return min(limit, time_limit) if time_limit else limit


def constructor(
    game: str,
    *,
    action_repeat: int,
    size: tuple[int, int],
    grayscale: bool,
    sticky: float,
    noops: int,
    full_actions: bool,
) -> Callable[[], Any]:
    """Make a function that creates one game with Gymnasium's preprocessing.

    Args:
      game: Name of the game.
      action_repeat: Frames per agent step.
      size: Height and width of images.
      grayscale: One channel instead of three.
      sticky: Probability that a frame repeats the previous action instead of taking the new one.
      noops: At most this many no-ops after a reset.
      full_actions: All 18 actions instead of those that the game reacts to.

    Raises:
      UserError: If there is no such game, or by the function, if the game has no no-op.
    """
    name = rom(game)

    def make() -> Any:
        import ale_py
        from ale_py.env import AtariEnv
        from gymnasium.wrappers import AtariPreprocessing

        # Without this ALE prints a banner for every environment.
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)

        class Seeded(AtariEnv):
            def seed_game(self, seed: int | None = None) -> tuple[int, int]:
                seeds = super().seed_game(seed)
                if seed is not None:
                    self.ale.setInt("random_seed", emulator_seed(seed))
                return seeds

        env = Seeded(
            name,
            obs_type="grayscale" if grayscale else "rgb",
            frameskip=1,
            repeat_action_probability=sticky,
            full_action_space=full_actions,
        )
        if noops and env.get_action_meanings()[0] != "NOOP":
            raise UserError(
                f"the game {name!r} has no no-op among its actions, but atari_noops is {noops}: "
                "set atari_noops to 0 or atari_full_actions to True"
            )
        return AtariPreprocessing(
            env,
            noop_max=noops,
            frame_skip=action_repeat,
            screen_size=(size[1], size[0]),
            grayscale_obs=grayscale,
            grayscale_newaxis=True,
        )

    return make


def native(
    game: str,
    *,
    name: str,
    num: int,
    seed: int,
    action_repeat: int,
    time_limit: int,
    size: tuple[int, int],
    grayscale: bool,
    sticky: float,
    noops: int,
    full_actions: bool,
) -> VecEnv:
    """Run `num` copies of a game in ALE's own threads.

    Args:
      game: Name of the game.
      name: Task name.
      num: Number of environments.
      seed: Of the whole run.
      action_repeat: Frames per agent step.
      time_limit: Agent steps; 0 leaves only the limit of 108,000 frames.
      size: Height and width of images.
      grayscale: One channel instead of three.
      sticky: Probability that a frame repeats the previous action.
      noops: At most this many no-ops after a reset.
      full_actions: All 18 actions instead of those that the game reacts to.

    Raises:
      UserError: If there is no such game.
    """
    cartridge = rom(game)
    import ale_py
    from ale_py.vector_env import AtariVectorEnv
    from gymnasium.vector import AutoresetMode

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    vector = AtariVectorEnv(
        cartridge,
        num,
        max_num_frames_per_episode=step_limit(action_repeat, time_limit) * action_repeat,
        repeat_action_probability=sticky,
        full_action_space=full_actions,
        autoreset_mode=AutoresetMode.NEXT_STEP,
        img_height=size[0],
        img_width=size[1],
        grayscale=grayscale,
        stack_num=1,
        frameskip=action_repeat,
        maxpool=action_repeat > 1,
        noop_max=noops + 1 if noops else 0,  # ALE draws below this number.
        episodic_life=False,
        life_loss_info=False,
        reward_clipping=False,
        use_fire_reset=False,
    )
    shape = (*size, 1 if grayscale else 3)
    return VecEnv(
        vector,
        name=name,
        obs_space={"image": ObsSpec(shape, np.dtype(np.uint8))},
        act_space=ActSpec("discrete", (int(vector.single_action_space.n),)),
        seeds=np.asarray([emulator_seed(each) for each in env_seeds(seed, num)], np.int32),
        action_repeat=action_repeat,
        convert=lambda obs: {"image": obs.reshape((num, *shape))},
    )
