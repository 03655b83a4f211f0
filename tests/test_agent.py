import sys

import numpy as np
import pytest
import tensorflow as tf
from tiny import (
    CONFIGS,
    CONTINUOUS,
    DISCRETE,
    IMAGE,
    MULTI,
    VECTOR,
    agent,
    batch,
    randomize,
    same,
    values,
)  # fmt: skip

from dreamerv2 import agent as agent_module
from dreamerv2 import latents, nets, optimizer, parts, world_model
from dreamerv2.agent import Agent
from dreamerv2.common import flags
from dreamerv2.common.envs.spaces import ActSpec, ObsSpec
from dreamerv2.common.errors import UserError
from dreamerv2.heads import Output

MIXED = {**IMAGE, **VECTOR}
ACTS = pytest.mark.parametrize("act", [DISCRETE, MULTI, CONTINUOUS], ids=lambda act: act.kind)


def observation(act=DISCRETE, obs=VECTOR, count=3, seed=0, first=False):
    data = batch(obs, act, (count,), seed)
    data["is_first"][:] = first
    return {key: value for key, value in data.items() if key != "action"}


def metrics_of(tiny, updates=2, act=DISCRETE, obs=VECTOR):
    return [
        {k: float(v) for k, v in tiny.train(batch(obs, act, seed=i), i)[1].items()}
        for i in range(updates)
    ]


def count(variables):
    return sum(int(np.prod(v.shape)) for v in variables)


def test_parameter_counts_of_the_atari_configuration():
    config = flags.build(CONFIGS, ["atari"]).update({"jit": "off"})
    big = Agent(config, IMAGE, ActSpec("discrete", (18,)))
    assert count(big.world_model.variables) == 19_975_379
    assert count(big.behavior.actor.variables) == 1_138_418
    assert count(big.behavior.critic.variables) == 1_131_601


def test_the_seed_decides_weights_and_updates():
    one, again, other = agent(), agent(), agent(seed=1)
    assert same(values(one.variables()), values(again.variables()))
    weights = {k for k in one.variables() if k.startswith("weights/") and k.endswith("kernel")}
    assert all(np.any(one.variables()[k] != other.variables()[k]) for k in weights)
    assert metrics_of(one, 1) == metrics_of(again, 1)
    assert same(values(one.variables()), values(again.variables()))


def snapshot(variables):
    """Return copies of all values and their ids."""
    return {id(v): np.array(v.numpy()) for v in variables}


def all_variables():
    """Return every tf.Variable that is alive, whoever holds it."""
    import gc

    from tensorflow.python.ops.resource_variable_ops import BaseResourceVariable

    return [v for v in gc.get_objects() if issubclass(type(v), BaseResourceVariable)]


def test_variables_hold_everything_that_an_update_or_an_action_changes():
    tiny = agent({
        "model_opt.opt": "nadam", "reward_norm.momentum": 0.9, "slow_target_update": 1,
        "slow_target_fraction": 0.5,
    })  # fmt: skip
    named = tiny.variables()
    assert len({id(v) for v in named.values()}) == len(named)
    alive = all_variables()
    assert {id(v) for v in named.values()} <= {id(v) for v in alive}
    before = snapshot(alive)
    metrics_of(tiny, 2)
    tiny.policy(observation())
    changed = {id(v) for v in alive if np.any(before[id(v)] != v.numpy())}
    listed = {id(v): key for key, v in named.items()}
    assert changed <= listed.keys()
    names = {listed[i] for i in changed}
    assert len(names) > 100
    expected = {"behavior/updates", "behavior/reward_magnitude", "seeds/train", "seeds/policy"}
    expected |= {"optimizers/model/good_updates", "weights/slow_critic/out/out/kernel"}
    assert expected <= names


@pytest.mark.parametrize("act", [MULTI, CONTINUOUS], ids=lambda act: act.kind)
def test_restored_variables_give_the_same_next_update_and_action(act):
    one, other = agent(act=act), agent(act=act, seed=5)
    metrics_of(one, 1, act)
    one.policy(observation(act))
    left, right = one.variables(), other.variables()
    assert left.keys() == right.keys()
    for key, variable in left.items():
        right[key].assign(variable)
    assert metrics_of(one, 1, act) == metrics_of(other, 1, act)
    np.testing.assert_array_equal(
        one.policy(observation(act))[0], other.policy(observation(act))[0]
    )
    assert same(values(left), values(right))


@ACTS
def test_actions_fit_their_space(act):
    tiny = agent(act=act)
    randomize(tiny.behavior.actor.variables)
    for mode in agent_module.MODES:
        action, state = tiny.policy(observation(act), mode=mode)
        assert action.dtype == tf.float32
        assert action.shape == (3, act.dim)
        np.testing.assert_array_equal(state["action"], action)
        if act.kind == "continuous":
            assert np.all(np.abs(action) <= 1)
            continue
        for part in tf.split(action, list(act.sizes), -1):
            np.testing.assert_allclose(np.sort(part, -1)[:, -1], 1, atol=1e-6)
            np.testing.assert_allclose(np.sum(part, -1), 1, atol=1e-6)


def test_training_samples_and_evaluation_takes_the_mode():
    tiny = agent({"eval_state_mean": True})
    obs = observation(count=64)
    trained = [np.array(tiny.policy(obs, mode="train")[0]) for _ in range(2)]
    assert np.any(trained[0] != trained[1])
    evaluated = [tiny.policy(obs, mode="eval") for _ in range(2)]
    np.testing.assert_array_equal(evaluated[0][0], evaluated[1][0])
    feat = tiny.world_model.rssm.get_feat(evaluated[0][1])
    np.testing.assert_array_equal(evaluated[0][0], tiny.behavior.actor.dist(feat).mode())


def test_evaluation_samples_the_latent_unless_told_otherwise():
    obs = observation(count=64)
    for mean, equal in [(False, False), (True, True)]:
        tiny = agent({"eval_state_mean": mean})
        latents = [np.array(tiny.policy(obs, mode="eval")[1]["stoch"]) for _ in range(2)]
        assert np.array_equal(*latents) == equal


def test_noise_applies_to_its_own_mode():
    obs = observation(count=400)
    tiny = agent({"eval_noise": 1.0, "eval_state_mean": True})
    randomize(tiny.behavior.actor.variables, scale=3.0)
    plain = agent({"eval_state_mean": True})
    for key, variable in tiny.variables().items():
        plain.variables()[key].assign(variable)
    noisy, calm = (np.array(a.policy(obs, mode="eval")[0]) for a in (tiny, plain))
    np.testing.assert_allclose(noisy.mean(0), 0.25, atol=0.1)
    assert calm.mean(0).max() > 0.3
    noisy, calm = (np.array(a.policy(obs, mode="train")[0]) for a in (tiny, plain))
    np.testing.assert_array_equal(noisy, calm)


@pytest.mark.parametrize("key", ["expl_noise", "eval_noise"])
def test_noise_on_discrete_actions_is_a_probability(key):
    with pytest.raises(UserError, match=rf"{key} is 1.5, but for discrete actions it is a prob"):
        agent({key: 1.5})
    agent({key: 1.5}, act=CONTINUOUS)


def test_a_first_step_forgets_what_was_before():
    tiny = agent({"eval_state_mean": True})
    randomize(tiny.world_model.variables)
    _, left = tiny.policy(observation(seed=1), mode="eval")
    _, right = tiny.policy(observation(seed=2), mode="eval")
    for first in (True, False):
        obs = observation(seed=3, first=first)
        results = [tiny.policy(obs, state, "eval")[1]["deter"] for state in (left, right)]
        assert np.array_equal(*results) == first
    obs = observation(seed=3, first=True)
    fresh, kept = (tiny.policy(obs, state, "eval")[1] for state in (None, left))
    np.testing.assert_array_equal(fresh["deter"], kept["deter"])


def test_the_state_carries_the_action():
    tiny = agent({"eval_state_mean": True})
    _, state = tiny.policy(observation(), mode="eval")
    other = {**state, "action": tf.roll(state["action"], 1, -1)}
    results = [tiny.policy(observation(seed=1), s, "eval")[1]["deter"] for s in (state, other)]
    assert np.any(results[0] != results[1])


def test_unknown_modes_are_refused():
    with pytest.raises(ValueError, match="mode is 'explore'; it must be one of train, eval"):
        agent().policy(observation(), mode="explore")


def test_steps_are_not_kept():
    # TensorFlow keeps every Python number it is given, for ever: gigabytes over a whole run.
    tiny = agent({"jit": "graph"})
    step = int("123456789")
    before = sys.getrefcount(step)
    tiny.train(batch(), step)
    assert sys.getrefcount(step) == before


def test_logs_reach_neither_policy_nor_training():
    obs = {**VECTOR, "log_score": ObsSpec((), np.dtype("float32"))}
    with_logs, without = agent(obs=obs), agent()
    data = batch(obs)
    assert "log_score" in data
    assert with_logs.variables().keys() == without.variables().keys()
    plain = {key: value for key, value in data.items() if key != "log_score"}
    left, right = with_logs.train(data, 0)[1], without.train(plain, 0)[1]
    assert {k: float(v) for k, v in left.items()} == {k: float(v) for k, v in right.items()}


def test_report_stacks_truth_prediction_and_error():
    obs = {**MIXED, "color": ObsSpec((64, 64, 3), np.dtype("uint8"))}
    tiny = agent(obs=obs)
    data = batch(obs, leading=(2, 6))
    videos = tiny.report(data)
    assert videos.keys() == {"image", "color"}
    for key, channels in [("image", 1), ("color", 3)]:
        video = np.array(videos[key])
        assert video.dtype == np.uint8
        assert video.shape == (2, 6, 3 * 64, 64, channels)
        truth, prediction, error = np.split(video.astype(int), 3, 2)
        np.testing.assert_array_equal(truth, data[key])
        np.testing.assert_allclose(error, (prediction - truth + 255) / 2, atol=1.01)
    assert agent().report(batch()) == {}


@pytest.mark.parametrize(
    ("dist", "act", "fitting"),
    [
        ("onehot", CONTINUOUS, "trunc_normal or tanh_normal or normal"),
        ("trunc_normal", DISCRETE, "onehot"), ("onehot", MULTI, "multi_onehot"),
    ],
)  # fmt: skip
def test_action_distributions_must_fit_the_space(dist, act, fitting):
    with pytest.raises(UserError) as error:
        agent({"actor.dist": dist}, act=act)
    assert str(error.value) == (
        f"actor.dist is {dist!r}, but {act.kind} actions need {fitting}; or leave it at auto."
    )


@pytest.mark.parametrize(
    ("dist", "grad"),
    [("trunc_normal", "both"), ("tanh_normal", "dynamics"), ("tanh_normal", "both"),
     ("normal", "reinforce")],
)  # fmt: skip
def test_every_continuous_actor_trains(dist, grad):
    metrics = metrics_of(agent({"actor.dist": dist, "actor_grad": grad}, act=CONTINUOUS), 1,
                         CONTINUOUS)  # fmt: skip
    assert np.all(np.isfinite(list(metrics[0].values())))


def test_the_choices_of_the_configuration_are_what_the_code_knows():
    config = flags.build(CONFIGS)
    rules = {key: field.rule for key, field in config._fields.items()}
    found = {key: {str(c) for c in rule.choices} for key, rule in rules.items() if rule.choices}
    checked = set()
    for key, known in found.items():
        name = key.rpartition(".")[2]
        expected = {
            "act": set(nets.ACTIVATIONS), "precision": set(nets.PRECISIONS),
            "opt": {*optimizer.OPTIMIZERS, "sgd"}, "std_act": set(latents.STD_ACTS),
            "clip_rewards": set(world_model.REWARD_TRANSFORMS),
        }.get(name)  # fmt: skip
        if expected:
            assert known == expected, key
            checked.add(name)
        if name == "dist":
            assert known - {"auto"} <= set(Output.KINDS), key
    assert checked == {"act", "precision", "opt", "std_act", "clip_rewards"}
    actors = {dist for fitting in parts.ACTORS.values() for dist in fitting}
    assert found["actor.dist"] == {"auto"} | actors
