"""The imagined game: it is what the world model says, step by step."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tiny

from dreamerv2 import play_dream, play_start
from dreamerv2.common import envs
from dreamerv2.common.envs.spaces import ActSpec, ObsSpec
from dreamerv2.common.envs.vector import VecEnv
from dreamerv2.common.errors import UserError
from dreamerv2.common.replay import Replay
from dreamerv2.loading import Run

COUNT = {
    "count": ObsSpec((2,), np.dtype("float32")),
    "image": ObsSpec((64, 64, 3), np.dtype("uint8")),
}


def make_run(
    changes: Mapping[str, Any] | None = None,
    obs: Mapping[str, ObsSpec] = COUNT,
    act: ActSpec = tiny.DISCRETE,
) -> Run:
    config = tiny.config(changes)
    agent = tiny.agent(changes, obs, act)
    tiny.randomize([v for layer in agent.world_model.layers for v in layer.variables], scale=0.2)
    return Run(pathlib.Path("nowhere"), config, obs, act, agent, "ckpt-1", 0, 0)


def count_env(**kwargs: Any) -> VecEnv:
    return envs.make("dummy_count", num=1, **kwargs)


@pytest.fixture(scope="module")
def dreamer() -> play_dream.Dreamer:
    """Compiled, since tests take many steps."""
    with count_env() as env:
        changes = {"jit": "graph", "clip_rewards": "tanh"}
        return play_dream.Dreamer(make_run(changes, env.obs_space, env.act_space), seed=3)


def test_steps_equal_those_of_the_model(dreamer: play_dream.Dreamer) -> None:
    run = dreamer.run
    model = run.agent.world_model
    with count_env() as env:
        start = play_start.FreshStart(dreamer, env, 1)
        game = play_dream.DreamGame(dreamer, start)
        frame = game.reset()
        assert frame.step == 0 and frame.action is None and frame.real is None
        state = game._state
        action = env.act_space.sample(np.random.default_rng(0), 1)
        # The generator gives the same seed once more.
        seeds = tf.random.Generator.from_state(dreamer._seeds.state.numpy(), "philox")
        frame = game.step(action[0])
        expected = model.rssm.img_step(state, action, seeds.uniform_full_int([2], tf.int32))
    feat = model.rssm.get_feat(expected)
    assert frame.dream.reward == pytest.approx(float(model.heads["reward"].dist(feat).mode()[0]))
    assert frame.dream.discount == pytest.approx(
        float(model.heads["discount"].dist(feat).mean()[0])
    )
    assert frame.dream.value == pytest.approx(float(run.agent.behavior.critic.dist(feat).mode()[0]))
    mean = model.decoder(feat)["image"][0].numpy()
    image = np.clip(mean + 0.5, 0, 1) * 255
    assert frame.dream.observation["image"].dtype == np.uint8
    assert np.abs(frame.dream.observation["image"] - image).max() <= 0.5
    np.testing.assert_allclose(
        frame.dream.observation["count"], model.decoder(feat)["count"][0], rtol=1e-5
    )
    choice = run.agent.behavior.actor.dist(feat).mode()[0]
    np.testing.assert_array_equal(frame.choice, choice)
    np.testing.assert_array_equal(frame.action, action[0])
    assert frame.step == 1 and frame.dream.score == frame.dream.reward


def test_real_environment_takes_the_same_actions_until_its_end(
    dreamer: play_dream.Dreamer,
) -> None:
    run = dreamer.run
    with count_env() as env:
        game = play_dream.DreamGame(dreamer, play_start.FreshStart(dreamer, env, 3), env)
        frame = game.reset()
        # Two steps before the dream, and the reward of a step is its number.
        assert frame.real is not None and frame.real.observation["count"].tolist() == [0, 2]
        assert "3 real observations" in frame.note
        for step in range(3, 13):
            frame = game.step(None)
            assert frame.real is not None
            assert frame.real.observation["count"].tolist() == [0, min(step, 10)]
            assert frame.real.over == (step >= 10)
        assert frame.real.score == sum(range(3, 11))
        assert frame.real.reward == pytest.approx(np.tanh(10)) and frame.real.discount == 0
        assert game.sync() is None
        # A new dream begins in a new episode, odd ones of which are truncated.
        game.reset()
        for _ in range(8):
            frame = game.step(None)
        assert frame.real is not None and frame.real.over
        assert frame.real.observation["count"].tolist() == [1, 10]
        assert frame.real.discount == pytest.approx(run.config.discount)


def test_the_agent_takes_the_action_that_was_shown_as_its_choice(
    dreamer: play_dream.Dreamer,
) -> None:
    with count_env() as env:
        game = play_dream.DreamGame(dreamer, play_start.FreshStart(dreamer, env, 1))
        frame = game.reset()
        for _ in range(4):
            shown = frame.choice
            frame = game.step(None)
            np.testing.assert_array_equal(frame.action, shown)


def test_sync_dreams_on_from_what_was_observed(dreamer: play_dream.Dreamer) -> None:
    with count_env() as env:
        game = play_dream.DreamGame(dreamer, play_start.FreshStart(dreamer, env, 1), env)
        game.reset()
        for _ in range(3):
            frame = game.step(None)
        assert frame.real is not None and frame.dream.value != frame.real.value
        synced = game.sync()
        assert synced is not None and synced.real is not None and synced.step == 3
        assert synced.dream.value == synced.real.value == frame.real.value
        assert "step 3" in synced.note


def test_context_is_shorter_where_episodes_are(dreamer: play_dream.Dreamer) -> None:
    with count_env() as env:
        context = play_start.FreshStart(dreamer, env, 50)()
        # 50, 25 and 12 observations do not fit into an episode of 11, the last of which ends it.
        assert context.transition["count"][0, 1] == 5 and not context.transition["is_last"][0]
        assert "6 real observations" in context.note


@pytest.mark.parametrize(
    "pred_discount, logit, over", [(True, -2.0, True), (True, 2.0, False), (False, 0.0, False)]
)
def test_end_is_announced_when_the_discount_head_predicts_it(
    pred_discount: bool, logit: float, over: bool, tmp_path: pathlib.Path
) -> None:
    run = make_run({"pred_discount": pred_discount}, tiny.VECTOR)
    if pred_discount:
        head = run.agent.world_model.heads["discount"]
        for variable in head.variables:
            variable.assign(tf.zeros_like(variable))
        head.variables[-1].assign([logit])  # The bias of the output.
    fill(tmp_path, run, lengths=[3])
    dreamer = play_dream.Dreamer(run)
    game = play_dream.DreamGame(dreamer, play_start.ReplayStart(dreamer, tmp_path, 2))
    assert not game.reset().dream.over
    frame = game.step(None)
    assert frame.dream.over == over
    if not pred_discount:
        assert frame.dream.discount == pytest.approx(run.config.discount)


def test_compiled_steps_are_traced_once(dreamer: play_dream.Dreamer) -> None:
    with count_env() as env:
        game = play_dream.DreamGame(dreamer, play_start.FreshStart(dreamer, env, 3), env)
        for _ in range(2):
            game.reset()
            game.step(None)
            game.step(np.eye(env.act_space.dim, dtype=np.float32)[0])
    assert dreamer._imagine_fn.experimental_get_tracing_count() == 1
    assert dreamer._observe_fn.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("act", [tiny.MULTI, tiny.CONTINUOUS])
def test_other_actions_and_vectors_alone(act: ActSpec, tmp_path: pathlib.Path) -> None:
    run = make_run(obs=tiny.VECTOR, act=act)
    fill(tmp_path, run, lengths=[5])
    dreamer = play_dream.Dreamer(run)
    game = play_dream.DreamGame(dreamer, play_start.ReplayStart(dreamer, tmp_path, 2))
    game.reset()
    frame = game.step(None)
    assert frame.dream.observation["vector"].shape == (5,)
    assert frame.action is not None and frame.action.shape == (act.dim,)


def fill(folder: pathlib.Path, run: Run, lengths: list[int]) -> None:
    """Write episodes of random numbers; the reward tells the row."""
    replay = Replay(folder, capacity=1000, length=2)
    for length in lengths:
        data = tiny.batch(run.obs_space, run.act_space, (length,))
        for row in range(length):
            transition = {key: value[row] for key, value in data.items()}
            transition["is_first"] = np.array(row == 0)
            transition["is_last"] = np.array(row == length - 1)
            transition["reward"] = np.float32(row)
            replay.add(transition)
    replay.close()


def test_replay_gives_beginnings_that_do_not_end_an_episode(tmp_path: pathlib.Path) -> None:
    run = make_run(obs=tiny.VECTOR)
    fill(tmp_path, run, lengths=[3, 1, 12])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    dreamer = play_dream.Dreamer(run)
    start = play_start.ReplayStart(dreamer, tmp_path, context=4)
    context = start()
    assert ("4 observations" in context.note) or ("2 observations" in context.note)
    assert context.transition["vector"].shape == (1, 5)
    rows = set()
    for _ in range(100):
        drawn = start._read()
        assert drawn["is_first"][0] and not drawn["is_last"].any()
        assert len(drawn["reward"]) in (2, 4)
        rows.add(float(drawn["reward"][-1]))
    assert rows == {1.0, *range(3, 11)}
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_replay_that_shrinks_meanwhile_is_read_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(obs=tiny.VECTOR)
    fill(tmp_path, run, lengths=[6])
    start = play_start.ReplayStart(play_dream.Dreamer(run), tmp_path, context=2)
    read = play_start.ReplayReader.read
    failures = iter([True, True, False])

    def fail_at_first(*args: Any) -> Any:
        if next(failures):
            raise play_start.ChunkError("gone")
        return read(*args)

    monkeypatch.setattr(play_start.ReplayReader, "read", fail_at_first)
    assert len(start._read()["reward"]) == 2


def test_empty_replay_is_one_sentence(tmp_path: pathlib.Path) -> None:
    dreamer = play_dream.Dreamer(make_run(obs=tiny.VECTOR))
    with pytest.raises(UserError, match="holds no steps to begin from"):
        play_start.ReplayStart(dreamer, tmp_path / "replay", 2)
