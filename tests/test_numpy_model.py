"""The world model with arrays in and out gives what its parts give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tiny
from gymnasium import spaces

from dreamerv2.agent import Agent
from dreamerv2.common.envs.spaces import act_spec
from dreamerv2.common.errors import UserError
from dreamerv2.numpy_model import NumpyModel
from dreamerv2.raw_observations import RawObservations

DISCRETE = spaces.Discrete(4, start=1)
CONTINUOUS = spaces.Box(-2.0, 6.0, (3,), np.float32)


def build(
    action: Any = DISCRETE, obs: Any = tiny.VECTOR, **changes: Any
) -> tuple[Agent, NumpyModel]:
    act = act_spec(action, "x")
    agent = tiny.agent({"imag_horizon": 6, **changes}, obs, act)
    tiny.randomize(agent.world_model.variables)
    tiny.randomize([*agent.behavior.actor.variables, *agent.behavior.critic.variables], 1)
    space: Any = (
        spaces.Box(-9, 9, (5,)) if obs is tiny.VECTOR else spaces.Box(0, 255, (64, 64, 1), np.uint8)
    )
    translate = RawObservations(space, (64, 64), obs)
    return agent, NumpyModel(agent, tiny.config({"imag_horizon": 6, **changes}), act, translate)


def sequences(action: Any = DISCRETE, shape: tuple[int, ...] = (2, 5)) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    action.seed(0)
    actions = np.stack([action.sample() for _ in range(int(np.prod(shape)))])
    obs = rng.normal(size=(*shape, 5)).astype(np.float32)
    return obs, actions.reshape((*shape, *actions.shape[1:]))


@pytest.mark.parametrize("action", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
@pytest.mark.parametrize("latent", [4, False], ids=["one-hot", "gaussian"])
def test_observing_is_what_the_policy_does_step_by_step(action: Any, latent: Any) -> None:
    agent, model = build(action, eval_state_mean=True, **{"rssm.discrete": latent})
    obs, actions = sequences(action)
    actions[:] = actions[:1]  # So that both sequences can be stepped by the same wrapper below.
    states = model.observe(obs, actions)
    vectors = act_spec(action, "x").from_env(actions.reshape((10, *action.shape)))
    vectors = vectors.reshape((2, 5, -1))
    state = agent.initial(2)
    off = np.zeros(2, bool)
    for t in range(5):
        state = {**state, "action": tf.constant(vectors[:, t])}
        data = {"vector": obs[:, t], "reward": np.zeros(2, np.float32), "is_terminal": off}
        _, state = agent.policy({**data, "is_first": off | (t == 0), "is_last": off}, state, "eval")
        for key in set(state) - {"action"}:
            np.testing.assert_allclose(states[key][:, t], state[key], rtol=1e-4, atol=1e-5)
    assert states["kl"].shape == (2, 5) and (states["kl"] > 0).all()
    flat = states["stoch"].reshape((2, 5, -1))
    np.testing.assert_array_equal(states["feat"], np.concatenate([flat, states["deter"]], -1))


def test_one_sequence_is_a_batch_of_one_without_its_dimension() -> None:
    _, model = build()
    obs, actions = sequences()
    several, one = model.observe(obs, actions), model.observe(obs[1], actions[1])
    for key, value in one.items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, several[key][1], rtol=1e-5, atol=1e-6)


def test_sequences_go_on_from_a_state_and_begin_anew_at_first_steps() -> None:
    _, model = build()
    obs, actions = sequences()
    whole = model.observe(obs, actions)
    begin = model.observe(obs[:, :2], actions[:, :2])
    middle = {key: value[:, -1] for key, value in begin.items()}
    rest = model.observe(obs[:, 2:], actions[:, 2:], state=middle)
    np.testing.assert_allclose(rest["deter"], whole["deter"][:, 2:], atol=1e-6)
    first = np.zeros((2, 5), bool)
    first[:, 0] = first[:, 2] = True
    anew = model.observe(obs, actions, first)
    alone = model.observe(obs[:, 2:], actions[:, 2:])
    np.testing.assert_allclose(anew["deter"][:, 2:], alone["deter"], atol=1e-6)
    other = actions.copy()
    other[:, 0] = 5 - other[:, 0]  # Nothing led to a first step.
    np.testing.assert_array_equal(model.observe(obs, other)["deter"], whole["deter"])


@pytest.mark.parametrize("action", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_imagining_given_actions(action: Any) -> None:
    agent, model = build(action)
    obs, actions = sequences(action)
    states = model.observe(obs, actions)
    _, given = sequences(action, (2, 5, 3))
    result = model.imagine(states, given)
    start = {k: tf.constant(states[k].reshape((10, *states[k].shape[2:]))) for k in states}
    vectors = act_spec(action, "x").from_env(given.reshape((30, *action.shape)))
    rssm = agent.world_model.rssm
    start = {key: start[key] for key in rssm.initial(1)}
    expected = rssm.imagine(tf.constant(vectors.reshape((10, 3, -1))), start)
    for key, value in expected.items():
        shape = (2, 5, 3, *value.shape[2:])
        np.testing.assert_allclose(result[key], np.reshape(value, shape), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result["action"], given, atol=1e-5)
    feat = tf.constant(result["feat"].reshape((30, -1)))
    for name, head in [
        ("reward", agent.world_model.heads["reward"].dist(feat).mode()),
        ("discount", agent.world_model.heads["discount"].dist(feat).mean()),
        ("value", agent.behavior.critic.dist(feat).mode()),
    ]:
        np.testing.assert_allclose(result[name].reshape(-1), head, rtol=1e-4, atol=1e-5)


def test_imagining_with_the_policy() -> None:
    agent, model = build(CONTINUOUS)
    obs, actions = sequences(CONTINUOUS)
    last = {key: value[0, -1] for key, value in model.observe(obs, actions).items()}
    result = model.imagine(last)
    assert result["action"].shape == (6, 3) and result["reward"].shape == (6,)
    before = np.concatenate([last["feat"][None], result["feat"][:-1]])
    modes = agent.behavior.actor.dist(tf.constant(before)).mode()
    np.testing.assert_allclose(result["action"], np.asarray(modes) * 4 + 2, rtol=1e-3, atol=1e-4)
    drawn = [model.imagine(last, horizon=2, seed=seed)["action"] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any() and drawn[0].shape == (2, 3)


def test_discrete_actions_are_those_of_the_environment() -> None:
    _, model = build()
    obs, actions = sequences()
    states = model.observe(obs, actions)
    result = model.imagine(states, horizon=3, seed=0)
    assert result["action"].shape == (2, 5, 3) and result["action"].dtype == np.int64
    assert set(np.unique(result["action"])) <= {1, 2, 3, 4}


def test_decoding_images_and_vectors() -> None:
    agent, model = build(obs=tiny.IMAGE)
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 1), dtype=np.uint8)
    states = model.observe(images, np.full(4, 2))
    decoded = model.decode(states)["image"]
    means = agent.world_model.decoder(tf.constant(states["feat"]))["image"]
    assert decoded.shape == (4, 64, 64, 1) and decoded.dtype == np.uint8
    expected = np.clip(np.asarray(means) + 0.5, 0, 1) * 255
    assert np.abs(decoded - expected).max() <= 0.5 + 1e-3
    agent, model = build()
    obs, actions = sequences()
    states = model.observe(obs, actions)
    vectors = model.decode(states)["vector"]
    means = agent.world_model.decoder(tf.constant(states["feat"].reshape((10, -1))))["vector"]
    np.testing.assert_allclose(vectors.reshape((10, 5)), means, atol=1e-5)
    one = {key: value[0, 0] for key, value in states.items()}
    np.testing.assert_allclose(model.decode(one)["vector"], vectors[0, 0], atol=1e-5)


def test_many_states_are_decoded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = build()
    states = model.observe(*sequences())
    whole = model.decode(states)["vector"]
    monkeypatch.setattr("dreamerv2.numpy_model._CHUNK", 3)
    np.testing.assert_allclose(model.decode(states)["vector"], whole, atol=1e-6)


def test_other_precisions_and_no_discount_head() -> None:
    _, model = build(precision="bfloat16", pred_discount=False)
    states = model.observe(*sequences())
    assert {value.dtype for value in states.values()} == {np.dtype("float32")}
    result = model.imagine(states, horizon=2)
    np.testing.assert_allclose(result["discount"], 0.99)
    assert result["value"].dtype == np.float32


def test_shapes_that_do_not_fit_are_one_sentence() -> None:
    _, model = build()
    obs, actions = sequences()
    states = model.observe(obs, actions)
    with pytest.raises(UserError, match=r"shape \(5,\); it must be \(T, 5\) or \(B, T, 5\)"):
        model.observe(obs[0, 0], actions)
    with pytest.raises(UserError, match=r"action has the shape \(2, 4\); it must be \(2, 5\)"):
        model.observe(obs, actions[:, 1:])
    with pytest.raises(UserError, match=r"is_first has the shape \(5,\)"):
        model.observe(obs, actions, np.zeros(5, bool))
    with pytest.raises(UserError, match="lacks 'stoch'"):
        model.decode({"deter": states["deter"]})
    with pytest.raises(UserError, match="stoch has the shape"):
        model.decode({**states, "stoch": states["stoch"][0]})
    with pytest.raises(UserError, match="action has the shape"):
        model.imagine(states, actions)
