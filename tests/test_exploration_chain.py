"""On a chain of cells: disagreement leads to unseen ones, the model's loss to where it is large."""

from __future__ import annotations

import types

import numpy as np
import pytest
import tensorflow as tf

from dreamerv2 import nets
from dreamerv2.actor_critic import ActorCritic
from dreamerv2.exploration import ModelLoss, Plan2Explore
from dreamerv2.returns import trajectory_weight
from dreamerv2.schedules import Schedule
from dreamerv2.world_model import LossOutputs

CELLS, SEEN = 10, 5
LEFT, RIGHT = np.eye(2, dtype=np.float32)
OPT = {"opt": "adam", "lr": 3e-3, "eps": 1e-5, "clip": 100.0, "wd": 0.0}
HEAD = {"layers": 1, "units": 32, "act": "elu", "norm": "none"}
POLICY = nets.dtype_policy(32)


class Chain:
    """A perfect model of a chain: the state is a one-hot cell, actions go left and right."""

    def __init__(self):
        def initial(count):
            return {"stoch": tf.zeros([count, CELLS]), "deter": tf.zeros([count, 1])}

        self.rssm = types.SimpleNamespace(feat_size=CELLS + 1, initial=initial)
        self.encoder = types.SimpleNamespace(output_size=CELLS)
        self.decoder = types.SimpleNamespace(cnn_keys=[], mlp_keys=[])
        self.heads = {}

    @staticmethod
    def move(stoch, action):
        left = tf.concat([stoch[:, :1] + stoch[:, 1:2], stoch[:, 2:], 0 * stoch[:, :1]], -1)
        right = tf.concat([0 * stoch[:, :1], stoch[:, :-2], stoch[:, -2:-1] + stoch[:, -1:]], -1)
        return action[:, :1] * left + action[:, 1:] * right

    def imagine(self, actor, start, is_terminal, horizon, seed):
        stoch = tf.reshape(start["stoch"], [-1, CELLS])
        deter = tf.zeros_like(stoch[:, :1])
        action = tf.zeros_like(stoch[:, :2])
        steps = [(stoch, action)]
        for k in range(horizon):
            policy = actor.dist(tf.concat([stoch, deter], -1))
            action = tf.stop_gradient(policy.sample(seed=seed + k))
            stoch = self.move(stoch, action)
            steps.append((stoch, action))
        seq = {"stoch": tf.stack([s for s, _ in steps]), "action": tf.stack([a for _, a in steps])}
        seq["feat"] = tf.concat([seq["stoch"], 0 * seq["stoch"][..., :1]], -1)
        seq["reward"] = tf.zeros(tf.shape(seq["feat"])[:2])
        seq["discount"] = 0.95 + seq["reward"]
        seq["weight"] = trajectory_weight(seq["discount"])
        return seq


def walk(rng, batch=16, length=8):
    """A random walk over the seen cells, as a world model would describe it."""
    cells = np.zeros((batch, length), int)
    action = np.zeros((batch, length, 2), np.float32)
    cells[:, 0] = rng.integers(SEEN, size=batch)
    for t in range(1, length):
        right = (rng.random(batch) < 0.5) & (cells[:, t - 1] < SEEN - 1)
        action[:, t] = np.where(right[:, None], RIGHT, LEFT)
        cells[:, t] = np.maximum(cells[:, t - 1] + np.where(right, 1, -1), 0)
    stoch = np.eye(CELLS, dtype=np.float32)[cells]
    feat = np.concatenate([stoch, 0 * stoch[..., :1]], -1)
    post = {"stoch": tf.constant(stoch), "deter": tf.constant(feat[..., -1:])}
    # The model is the worse the farther right.
    outputs = LossOutputs(
        tf.constant(stoch), tf.constant(feat), post, post, {}, tf.constant(cells, tf.float32)
    )
    first = np.zeros((batch, length), bool)
    data = {"action": action, "is_first": first, "is_terminal": first.copy()}
    data["is_first"][:, 0] = True
    return outputs, {key: tf.constant(value) for key, value in data.items()}


@pytest.mark.parametrize("kind", [Plan2Explore, ModelLoss])
def test_it_goes_where_there_is_something_to_learn(kind):
    tf.keras.utils.set_random_seed(0)
    chain, rng = Chain(), np.random.default_rng(0)
    behavior = ActorCritic(
        CELLS + 1, (2,), True,
        actor={**HEAD, "dist": "onehot"}, critic={**HEAD, "dist": "mse"},
        actor_opt=OPT, critic_opt=OPT, horizon=6, discount_lambda=0.95, actor_grad="reinforce",
        actor_grad_mix=Schedule.parse("mix", 0.1), actor_ent=Schedule.parse("ent", 1e-3),
        slow_target=True, slow_target_update=10, slow_target_fraction=1.0, slow_baseline=True,
        reward_norm={"momentum": 1.0, "scale": 1.0, "eps": 0.0}, policy=POLICY,
    )  # fmt: skip
    common = dict(
        head={**HEAD, "dist": "mse"}, opt=OPT, intr_scale=1.0, extr_scale=0.0, policy=POLICY,
        reward_norm={"momentum": 0.9, "scale": 1.0, "eps": 1e-8},
    )  # fmt: skip
    if kind is Plan2Explore:
        explorer = Plan2Explore(
            chain, behavior, 2, target="stoch", models=5, offset=1, action_cond=True, log=False,
            **common,
        )  # fmt: skip
    else:
        explorer = ModelLoss(chain, behavior, loss="kl", **common)
    train = tf.function(explorer.train, autograph=False)
    losses = []
    for step in range(200):
        outputs, data = walk(rng)
        seed = tf.constant([step, 0], tf.int32)
        losses.append(float(train(outputs, data, tf.constant(step), seed)["predictor_loss"]))
    assert np.mean(losses[-10:]) < losses[0]
    feat = np.eye(CELLS + 1, dtype=np.float32)[:CELLS]
    right = behavior.actor.dist(feat).probs_parameter().numpy()[:, 1]
    # What a predictor says about unseen cells is anyone's guess, that its members differ is not.
    assert right[: SEEN + 1 if kind is Plan2Explore else SEEN - 1].min() > 0.8, right
    if kind is Plan2Explore:
        cells, action = feat, np.tile(RIGHT, (CELLS, 1))
        novelty = explorer._disagreement(explorer._inputs(cells, action)).numpy()
        assert novelty[SEEN:].min() > 3 * novelty[: SEEN - 1].max(), novelty
