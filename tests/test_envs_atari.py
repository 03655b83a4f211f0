import hashlib
import re

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dreamerv2.common import envs
from dreamerv2.common.envs import atari, wrappers
from dreamerv2.common.errors import UserError

PLAIN = dict(action_repeat=4, atari_sticky=0.0, atari_noops=0)


def play(task, steps, seed=0, **options):
    """Play fixed actions: the batches, stacked over time."""
    with envs.make(task, seed=seed, **options) as env:
        rng = np.random.default_rng(7)
        batches = [env.reset()]
        for _ in range(steps):
            batches.append(env.step(env.act_space.sample(rng, env.num)))
    return {key: np.stack([batch[key] for batch in batches]) for key in batches[0]}


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def test_images_against_the_bare_emulator():
    """Four frames, the maximum over the last two, averaged over areas."""
    import ale_py
    from ale_py import roms

    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(roms.get_rom_path("pong"))
    ale.reset_game()
    actions = ale.getMinimalActionSet()
    # 210 x 160 to 64 x 64: the share of every pixel in every cell.
    shares = []
    for size in (210, 160):
        edges = np.arange(65)[:, None] * size / 64
        inside = np.clip(edges - np.arange(size), 0, 1)
        shares.append((inside[1:] - inside[:-1]) * 64 / size)
    with envs.make("atari_pong", **PLAIN) as env:
        env.reset()
        for step in range(60):
            index = step // 10
            batch = env.step(np.eye(6, dtype=np.float32)[[index]])
            frames, reward = [], 0
            for _ in range(4):
                reward += ale.act(actions[index])
                frames.append(ale.getScreenGrayscale().astype(np.float64))
            expected = shares[0] @ np.maximum(*frames[2:]) @ shares[1].T
            assert np.abs(batch["image"][0, ..., 0] - expected).max() < 0.51
            assert batch["reward"] == reward


@pytest.mark.parametrize("parallel", ["none", "native"])
@pytest.mark.parametrize(
    "task, grayscale, image, rewards",
    [
        ("atari_pong", True, "32ad9707f48aa164", {64: -1.0, 99: -1.0}),
        ("atari_breakout", True, "f1f7e7e00877de90", {80: 1.0}),
        ("atari_breakout", False, "af73117a897771b2", {80: 1.0}),
    ],
)
def test_pinned_preprocessing(task, grayscale, image, rewards, parallel):
    out = play(task, 200, parallel=parallel, atari_grayscale=grayscale, **PLAIN)
    assert out["image"].shape == (201, 1, 64, 64, 1 if grayscale else 3)
    got = {step: float(r) for step, r in enumerate(out["reward"][:, 0]) if r}
    assert (digest(out["image"]), got) == (image, rewards)


@pytest.mark.parametrize(
    "task, options",
    [
        ("atari_breakout", dict(steps=500)),
        ("atari_boxing", dict(steps=150, atari_grayscale=False, size=(48, 80))),
        ("atari_ms_pacman", dict(steps=150, atari_full_actions=True)),
        ("atari_pong", dict(steps=100, action_repeat=1)),
        ("atari_air_raid", dict(steps=100)),
    ],
)
def test_native_gives_what_gymnasium_gives(task, options):
    options = {**PLAIN, **options}
    ours = play(task, parallel="none", **options)
    native = play(task, parallel="native", **options)
    for key in ours:
        np.testing.assert_array_equal(ours[key], native[key], err_msg=key)
    if task == "atari_breakout":
        assert ours["is_terminal"].sum() >= 1 and ours["is_first"].sum() >= 2


def test_native_gives_what_gymnasium_gives_with_sticky_actions():
    """Several environments, episodes and seeds; half of ALE's own seeds would be negative."""
    options = {**PLAIN, "atari_sticky": 0.25}
    episodes = 0
    for seed in range(3):
        ours, native = (
            play("atari_breakout", 220, seed=seed, num=2, parallel=parallel, **options)
            for parallel in ("none", "native")
        )
        for key in ours:
            np.testing.assert_array_equal(ours[key], native[key], err_msg=key)
        episodes += ours["is_first"].sum()
        assert (ours["image"][:, 0] != ours["image"][:, 1]).any()
    assert episodes > 6


@pytest.mark.parametrize("parallel", ["none", "native"])
def test_time_limit(parallel):
    out = play("atari_pong", 22, parallel=parallel, action_repeat=4, time_limit=10)
    assert np.flatnonzero(out["is_first"]).tolist() == [0, 11, 22]
    assert np.flatnonzero(out["is_last"]).tolist() == [10, 21]
    assert not out["is_terminal"].any()


def test_both_backends_end_at_the_same_frame_but_the_last_image_may_differ():
    options = dict(PLAIN, steps=12, time_limit=10)
    ours, native = (play("atari_pong", parallel=p, **options)["image"] for p in ("none", "native"))
    np.testing.assert_array_equal(np.delete(ours, 10, 0), np.delete(native, 10, 0))


def test_frame_limit():
    assert atari.step_limit(4, 0) == atari.step_limit(4, 27000) == 27000
    assert atari.step_limit(4, 500) == 500
    assert atari.step_limit(1, 0) == 108000


@pytest.mark.parametrize("parallel", ["none", "native"])
def test_randomness_comes_from_the_seed(parallel):
    options = dict(parallel=parallel, action_repeat=4, num=2)
    first = play("atari_pong", 60, seed=3, **options)["image"]
    np.testing.assert_array_equal(first, play("atari_pong", 60, seed=3, **options)["image"])
    assert (first != play("atari_pong", 60, seed=4, **options)["image"]).any()


@pytest.mark.parametrize("parallel", ["none", "native"])
def test_noops_and_sticky_actions(parallel):
    def starts(noops):
        options = dict(parallel=parallel, action_repeat=4, atari_sticky=0.0, atari_noops=noops)
        return {digest(play("atari_alien", 0, seed=seed, **options)["image"]) for seed in range(3)}

    assert len(starts(0)) == 1 and len(starts(30)) > 1

    def images(sticky):
        options = dict(parallel=parallel, action_repeat=4, atari_noops=0, atari_sticky=sticky)
        return {digest(play("atari_pong", 30, seed=s, **options)["image"]) for s in range(3)}

    assert len(images(0.0)) == 1 and len(images(0.25)) == 3


def test_processes_give_what_one_process_gives():
    ours, process = (
        play("atari_pong", 20, num=2, parallel=parallel, action_repeat=4)["image"]
        for parallel in ("none", "process")
    )
    np.testing.assert_array_equal(ours, process)


@pytest.mark.parametrize("parallel", ["none", "native"])
def test_rewards_are_not_clipped_and_lives_do_not_matter(parallel):
    out = play("atari_ms_pacman", 400, parallel=parallel, action_repeat=4)
    assert out["reward"].max() >= 10
    # A life is lost long before the game is over.
    assert np.flatnonzero(out["is_last"]).tolist() == np.flatnonzero(out["is_terminal"]).tolist()
    assert not out["is_last"][:150].any()


def test_action_spaces():
    def actions(**options):
        with envs.make("atari_pong", **options) as env:
            return env.act_space.sizes, env.obs_space["image"].shape, env.action_repeat

    assert actions() == ((6,), (64, 64, 1), 1)
    assert actions(parallel="native", action_repeat=4) == ((6,), (64, 64, 1), 4)
    assert actions(atari_full_actions=True, action_repeat=4) == ((18,), (64, 64, 1), 4)
    assert actions(atari_full_actions=True, parallel="native")[0] == (18,)
    assert actions(size=(32, 48), atari_grayscale=False)[1] == (32, 48, 3)


def test_names():
    assert len(atari.games()) > 100
    for name in ("james_bond", "jamesbond", "JamesBond"):
        assert atari.rom(name) == "jamesbond"
    assert atari.rom("ms_pacman") == "ms_pacman"
    assert atari.rom("stargunner") == "star_gunner"
    # The 55 games of the published scores.
    published = re.findall(
        r"\w+",
        """
        alien amidar assault asterix asteroids atlantis bank_heist battle_zone beam_rider
        berzerk bowling boxing breakout centipede chopper_command crazy_climber demon_attack
        double_dunk enduro fishing_derby freeway frostbite gopher gravitar hero ice_hockey
        james_bond kangaroo krull kung_fu_master montezuma_revenge ms_pacman name_this_game
        phoenix pitfall pong private_eye qbert riverraid road_runner robotank seaquest skiing
        solaris space_invaders star_gunner tennis time_pilot tutankham up_n_down venture
        video_pinball wizard_of_wor yars_revenge zaxxon
        """,
    )
    assert len({atari.rom(name) for name in published}) == 55


@pytest.mark.parametrize(
    "task, message",
    [
        ("atari_pnog", "'atari_pnog' names a game that ALE does not have: did you mean atari_pong"),
        ("atari_qqqqqq", "names look like atari_ms_pacman"),
        ("atari_combat", "'atari_combat' names a game that ALE does not have"),
        ("atari_backgammon", "no no-op among its actions, but atari_noops is 30: set atari_noops"),
    ],
)
def test_refused_games(task, message):
    with pytest.raises(UserError, match=message):
        envs.make(task)
    if task != "atari_backgammon":
        with pytest.raises(UserError, match=message):
            envs.make(task, parallel="native")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gymnasium_checker():
    build = atari.constructor(
        "pong",
        action_repeat=4,
        size=(64, 64),
        grayscale=True,
        sticky=0.25,
        noops=30,
        full_actions=False,
    )
    check_env(wrappers.wrap(build(), name="atari_pong"), skip_render_check=True)
