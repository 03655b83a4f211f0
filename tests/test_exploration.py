"""Disagreement, the losses of predictors, and which action and state each reward is made of."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tiny import DISCRETE, IMAGE, VECTOR, agent, batch, randomize

from dreamerv2.exploration import disagreement

BOTH = {**IMAGE, **VECTOR}
LEARNING = ("Plan2Explore", "ModelLoss")


def explorer(changes=None, obs=VECTOR, act=DISCRETE, kind="Plan2Explore", seed=0):
    settings = {"expl_behavior": kind, "disag_models": 3, "prefill": 0}
    return agent({**settings, **(changes or {})}, obs, act, seed)


def observation(act=DISCRETE, obs=VECTOR, count=400):
    data = batch(obs, act, (count,))
    return {key: value for key, value in data.items() if key != "action"}


def metrics_of(tiny, updates=2, act=DISCRETE, obs=VECTOR, step=0):
    return [
        {k: float(v) for k, v in tiny.train(batch(obs, act, seed=i), step + i)[1].items()}
        for i in range(updates)
    ]


def outputs_of(tiny, data):
    """What the world model computes on a batch, with a predictor of random weights."""
    for index, head in enumerate(tiny.exploration.predictor):
        randomize(head.variables, seed=index)
    return tiny.world_model.loss(data)[1]


# Disagreement


def test_disagreement_is_the_mean_standard_deviation():
    predictions = np.random.default_rng(0).normal(size=(5, 2, 3, 4)).astype(np.float32)
    expected = predictions.std(0).mean(-1)
    np.testing.assert_allclose(disagreement(tf.constant(predictions)), expected, rtol=1e-5)


def test_members_that_agree_have_no_disagreement_and_no_gradient():
    one = tf.constant(np.random.default_rng(0).normal(size=(2, 4)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(one)
        value = disagreement(tf.stack([one] * 4))
    np.testing.assert_array_equal(value, 0)
    np.testing.assert_array_equal(tape.gradient(value, one), 0)


def test_logarithm_of_no_disagreement_is_finite():
    tiny = explorer({"disag_log": True, "expl_head.layers": 0})
    data = batch()
    outputs = tiny.world_model.loss(data)[1]
    for head in tiny.exploration.predictor:
        for variable in head.variables:
            variable.assign(tf.zeros_like(variable))
    value, known = tiny.exploration.known_arrival(outputs, data)
    np.testing.assert_allclose(value.numpy()[known], np.log(1e-6), rtol=1e-5)


# Plan2Explore: sizes of targets


@pytest.mark.parametrize(
    ("target", "discrete"),
    [("stoch", 4), ("stoch", False), ("feat", 4), ("feat", False), ("deter", 4), ("embed", 4)],
)
def test_every_target_has_its_size_and_is_learned(target, discrete):
    changes = {"disag_target": target, "rssm.discrete": discrete, "expl_opt.lr": 1e-2}
    tiny = explorer(changes, BOTH)
    data = batch(BOTH)
    outputs = tiny.world_model.loss(data)[1]
    stoch = 3 * (discrete or 1)
    size = {"stoch": stoch, "deter": 6, "feat": stoch + 6, "embed": outputs.embed.shape[-1]}
    inputs = tiny.exploration._inputs(outputs.feat, data["action"])
    for member in tiny.exploration.predictor:
        assert member.dist(inputs).mode().shape == (2, 4, size[target])
    assert tiny.exploration._targets(outputs).shape == (2, 4, size[target])
    losses = []
    for _ in range(6):
        with tf.GradientTape() as tape:
            loss = tiny.exploration.predictor_loss(outputs, data)
        tiny.exploration._optimizer(tape, loss)
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 0.01


def test_ensemble_loss_is_the_sum_of_squared_errors():
    tiny = explorer()
    data = batch()
    data["is_first"][1, 2] = True
    outputs = outputs_of(tiny, data)
    loss = tiny.exploration.predictor_loss(outputs, data)
    stoch = outputs.post["stoch"].numpy().reshape(2, 4, 12)
    feat = outputs.feat.numpy()
    total, count = 0.0, 0
    for b in range(2):
        for t in range(3):
            if data["is_first"][b, t + 1]:
                continue
            count += 1
            inputs = np.concatenate([feat[b, t], data["action"][b, t + 1]])[None]
            for member in tiny.exploration.predictor:
                error = member.dist(inputs).mode().numpy()[0] - stoch[b, t + 1]
                total += 0.5 * np.sum(error**2) + 12 * 0.5 * np.log(2 * np.pi)
    assert count == 5
    assert float(loss) == pytest.approx(total / count, rel=1e-4)


# Plan2Explore: which action belongs to which state


@pytest.mark.parametrize("offset", [1, 2])
def test_the_action_out_of_a_state_conditions_its_prediction(offset):
    tiny = explorer({"disag_offset": offset})
    data = batch(leading=(2, 5))
    outputs = outputs_of(tiny, data)
    action = tf.constant(data["action"])
    feat = outputs.feat
    target = tf.identity(outputs.post["stoch"])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([action, feat, target])
        outputs = outputs._replace(feat=feat, post={**outputs.post, "stoch": target})
        loss = tiny.exploration.predictor_loss(outputs, {**data, "action": action})

    def used(x):
        grad = tape.gradient(loss, x).numpy()
        return np.abs(grad).reshape(2, 5, -1).max((0, 2)) > 0

    # States 0 to 4 - offset are asked, each with the action that follows it.
    asked = np.arange(5) < 5 - offset
    np.testing.assert_array_equal(used(feat), asked)
    np.testing.assert_array_equal(used(action), np.roll(asked, 1))
    np.testing.assert_array_equal(used(target), np.arange(5) >= offset)


@pytest.mark.parametrize("offset", [1, 2])
def test_nothing_is_predicted_across_the_start_of_an_episode(offset):
    tiny = explorer({"disag_offset": offset})
    data = batch(leading=(1, 6))
    data["is_first"][0, 3] = True
    outputs = outputs_of(tiny, data)
    target = tf.identity(outputs.post["stoch"])
    with tf.GradientTape() as tape:
        tape.watch(target)
        outputs = outputs._replace(post={**outputs.post, "stoch": target})
        loss = tiny.exploration.predictor_loss(outputs, data)
    used = np.abs(tape.gradient(loss, target).numpy()).max((0, 2, 3)) > 0
    expected = {1: [0, 1, 1, 0, 1, 1], 2: [0, 0, 1, 0, 0, 1]}[offset]
    np.testing.assert_array_equal(used, np.array(expected, bool))


def imagined(tiny, outputs, data):
    model, actor = tiny.world_model, tiny.behavior.actor
    return model.imagine(actor, outputs.post, data["is_terminal"], 3, None)


def test_an_imagined_transition_rewards_the_arrival_by_it():
    tiny = explorer()
    data = batch()
    data["is_first"][0, 2] = True
    outputs = outputs_of(tiny, data)
    seq = imagined(tiny, outputs, data)
    feat, action = tf.identity(seq["feat"]), tf.identity(seq["action"])
    arrival = tiny.exploration.known_arrival(outputs, data)
    for t in range(4):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([feat, action])
            reward = tiny.exploration.intrinsic({"feat": feat, "action": action}, arrival)[t, 1]
        if t == 0:
            assert tape.gradient(reward, feat) is None or not np.any(tape.gradient(reward, feat))
            continue
        by_feat, by_action = (np.abs(tape.gradient(reward, x)).max(-1) for x in (feat, action))
        np.testing.assert_array_equal(by_feat[:, 1] > 0, np.arange(4) == t - 1)
        np.testing.assert_array_equal(by_action[:, 1] > 0, np.arange(4) == t)
    # Start states get what the replay knows: the transition by which each was reached.
    rewards = tiny.exploration.intrinsic(seq, arrival)
    members = tiny.exploration.predictor
    for b in range(2):
        for t in range(4):
            if data["is_first"][b, t]:
                expected = rewards[1, 4 * b + t]
            else:
                inputs = np.concatenate([outputs.feat[b, t - 1], data["action"][b, t]])[None]
                expected = disagreement(tf.stack([m.dist(inputs).mode() for m in members]))[0]
            assert float(rewards[0, 4 * b + t]) == pytest.approx(float(expected), rel=1e-4)


def test_without_the_action_the_reward_is_that_of_the_state():
    tiny = explorer({"disag_action_cond": False})
    data = batch()
    outputs = outputs_of(tiny, data)
    seq = imagined(tiny, outputs, data)
    rewards = tiny.exploration.intrinsic(seq, tiny.exploration.known_arrival(outputs, data))
    members = tiny.exploration.predictor
    expected = np.stack([m.dist(seq["feat"]).mode() for m in members]).std(0).mean(-1)
    np.testing.assert_allclose(rewards, expected, rtol=1e-4)


# Rewards


@pytest.mark.parametrize("kind", LEARNING)
def test_rewards_are_weighted_sums(kind):
    scales = {"expl_intr_scale": 0.5, "expl_extr_scale": 3.0}
    tiny = explorer(scales, kind=kind)
    data = batch()
    outputs = outputs_of(tiny, data)
    seq = imagined(tiny, outputs, data)
    arrival = tiny.exploration.known_arrival(outputs, data)
    intrinsic = tiny.exploration.intrinsic(seq, arrival).numpy()
    total, metrics = tiny.exploration.reward(seq, arrival)
    np.testing.assert_allclose(total, 0.5 * intrinsic + 3.0 * seq["reward"], rtol=1e-5)
    assert float(metrics["intr_mean"]) == pytest.approx(intrinsic.mean(), rel=1e-5)
    assert float(metrics["extr_mean"]) == pytest.approx(np.mean(seq["reward"]), rel=1e-4)
    plain, metrics = explorer(kind=kind).exploration.reward(seq, arrival)
    assert plain.shape == total.shape and "extr_mean" not in metrics


def test_each_reward_is_normalised_by_its_own_magnitude():
    norm = {"expl_reward_norm.momentum": 0.9, "expl_reward_norm.scale": 2.0}
    tiny = explorer({**norm, "expl_extr_scale": 1.0, "reward_norm.momentum": 0.5})
    data = batch()
    outputs = outputs_of(tiny, data)
    seq = imagined(tiny, outputs, data)
    arrival = tiny.exploration.known_arrival(outputs, data)
    parts = [tiny.exploration.intrinsic(seq, arrival).numpy(), seq["reward"].numpy()]
    expected = sum(2.0 * x / (0.9 + 0.1 * np.abs(x).mean()) for x in parts)
    total, _ = tiny.exploration.reward(seq, arrival)
    np.testing.assert_allclose(total, expected, rtol=1e-4)
    # Not once more by the actor-critic, whatever the task's normalisation.
    normed, _ = tiny.exploration.behavior._reward_norm(total)
    np.testing.assert_array_equal(normed, total)


@pytest.mark.parametrize(
    ("loss", "keys"),
    [("kl", ["kl"]), ("reward", ["reward"]), ("discount", ["discount"]),
     ("image", ["image", "color"]), ("proprio", ["vector"])],
)  # fmt: skip
def test_model_loss_predicts_the_loss_it_is_told(loss, keys):
    obs = {**BOTH, "color": IMAGE["image"]}
    tiny = explorer({"expl_model_loss": loss}, obs, kind="ModelLoss")
    data = batch(obs)
    outputs = outputs_of(tiny, data)
    each = {"kl": outputs.kl, **{k: -v for k, v in outputs.log_probs.items()}}
    target = sum(each[key].numpy() for key in keys)
    (head,) = tiny.exploration.predictor
    error = head.dist(outputs.feat).mode().numpy() - target
    expected = 0.5 * np.mean(error.astype(np.float64) ** 2) + 0.5 * np.log(2 * np.pi)
    value = tiny.exploration.predictor_loss(outputs, data)
    assert float(value) == pytest.approx(expected, rel=1e-4)
    seq = imagined(tiny, outputs, data)
    np.testing.assert_array_equal(
        tiny.exploration.intrinsic(seq, (None, None)), head.dist(seq["feat"]).mode()
    )
