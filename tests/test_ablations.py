"""Each ablation removes one thing, and nothing else."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tiny import CONFIGS, CONTINUOUS, DISCRETE, IMAGE, SIZES, batch, randomize

from dreamerv2 import loop, tasks
from dreamerv2.agent import Agent
from dreamerv2.common import flags
from dreamerv2.common.config import Config
from dreamerv2.common.envs.spaces import ActSpec

DOCUMENT = flags.Document.read(CONFIGS)
SEED = tf.constant([3, 5])
CHANGES: dict[str, dict[str, Any]] = {
    "no_layer_norm": {"rssm.gru_norm": "none"},
    "no_reward_gradients": {"grad_heads": ("decoder", "discount")},
    "no_image_gradients": {"grad_heads": ("reward", "discount")},
    "no_discrete_latents": {"rssm.discrete": False},
    "no_kl_balancing": {"kl.balance": 0.5},
    "no_policy_reinforce": {"actor_grad": "dynamics"},
    "no_straight_through": {"actor_grad": "reinforce"},
    "random_data": {"expl_behavior": "Random", "expl_until": 0},
}
NOTHING: Mapping[str, Any] = {}
BASES = [name for name in DOCUMENT.overlays if name not in CHANGES]

Grads = dict[str, np.ndarray]


def test_these_are_all_ablations() -> None:
    marked = {name for name, about in DOCUMENT.about.items() if about.startswith("Ablation:")}
    assert marked == CHANGES.keys()


@pytest.mark.parametrize("name", CHANGES)
def test_exactly_the_listed_keys_change_on_any_configuration(name: str) -> None:
    for base in BASES:
        before = flags.build(DOCUMENT, [base]).flat
        after = flags.build(DOCUMENT, [base, name]).flat
        assert after == {**before, **CHANGES[name]}, base


def build(*names: str, act: ActSpec = DISCRETE, changes: Mapping[str, Any] = NOTHING) -> Agent:
    """Return a tiny agent of `atari` or what `names` begin with, with noise as weights."""
    base = [name for name in names if name in BASES] or ["atari"]
    config = flags.build(DOCUMENT, base).update(SIZES).update(changes)
    for name in names:
        if name in CHANGES:
            config = config.update(DOCUMENT.overlays[name])
    agent = Agent(config, IMAGE, act)
    for path, variable in weights(agent).items():
        # By name, so that agents agree in the weights that both have.
        seed = sum(map(ord, path))
        randomize([variable], seed, 0.3)
    return agent


def weights(agent: Agent) -> dict[str, tf.Variable]:
    prefix = "weights/"
    variables = agent.variables().items()
    return {k[len(prefix) :]: v for k, v in variables if k.startswith(prefix)}


def world_model_gradients(agent: Agent) -> dict[str, Grads]:
    """Return for each loss its gradient by name of the weight, zeros where there is none."""
    model = agent.world_model
    variables = {k: v for k, v in weights(agent).items() if k.split("/")[0] not in BEHAVIOR}
    with tf.GradientTape(persistent=True) as tape:
        _, _, metrics = model.loss(batch(IMAGE), None, SEED)
        losses = {key: metrics[f"{key}_loss"] for key in ("kl", "image", "reward", "discount")}
    zero = tf.UnconnectedGradients.ZERO
    result = {}
    for name, loss in losses.items():
        grads = tape.gradient(loss, list(variables.values()), unconnected_gradients=zero)
        result[name] = {k: np.asarray(g) for k, g in zip(variables, grads, strict=True)}
    return result


BEHAVIOR = ("actor", "critic", "slow_critic")
baseline = functools.cache(lambda: world_model_gradients(build()))


def part(grads: Grads, *modules: str) -> Grads:
    return {key: value for key, value in grads.items() if key.split("/")[0] in modules}


def largest(grads: Grads) -> float:
    return max(float(np.abs(value).max()) for value in grads.values())


def assert_same(left: Grads, right: Grads) -> None:
    assert left.keys() == right.keys()
    for key in left:
        scale = float(np.abs(right[key]).max())
        np.testing.assert_allclose(left[key], right[key], atol=1e-5 * scale + 1e-7, err_msg=key)


@pytest.mark.parametrize(
    ("name", "loss", "head"),
    [
        ("no_reward_gradients", "reward", "reward"),
        ("no_image_gradients", "image", "decoder"),
    ],
)
def test_a_loss_no_longer_shapes_the_latent_state(name: str, loss: str, head: str) -> None:
    before, after = baseline(), world_model_gradients(build(name))
    assert largest(part(before[loss], "encoder")) > 0
    assert largest(part(before[loss], "rssm")) > 0
    assert largest(part(after[loss], "encoder", "rssm")) == 0
    assert largest(part(after[loss], head)) > 0
    assert_same(part(after[loss], head), part(before[loss], head))
    for other in before.keys() - {loss}:
        assert_same(after[other], before[other])


def test_no_kl_balancing_trains_prior_and_posterior_alike() -> None:
    before, after = baseline(), world_model_gradients(build("no_kl_balancing"))
    sides = [
        world_model_gradients(build(changes={"kl.balance": side}))["kl"] for side in (0.0, 1.0)
    ]
    assert all(largest(side) > 0 for side in sides)
    posterior, prior = sides
    assert_same(before["kl"], {k: 0.2 * posterior[k] + 0.8 * prior[k] for k in prior})
    assert_same(after["kl"], {k: posterior[k] + prior[k] for k in prior})
    for other in ("image", "reward", "discount"):
        assert_same(after[other], before[other])


def test_no_layer_norm_leaves_the_gates_as_they_are() -> None:
    before, after = build(), build("no_layer_norm")
    gone = weights(before).keys() - weights(after).keys()
    assert gone == {"rssm/gru/norm/gamma", "rssm/gru/norm/beta"}
    assert all(v.shape == weights(before)[k].shape for k, v in weights(after).items())
    x, state = np.ones((2, 8), np.float32), np.full((2, 6), 0.5, np.float32)
    w = {k: np.asarray(v) for k, v in weights(after).items()}
    gates = np.concatenate([x, state], -1) @ w["rssm/gru/gates/kernel"] + w["rssm/gru/gates/bias"]
    reset, candidate, update = np.split(gates, 3, -1)
    update = 1 / (1 + np.exp(1 - update))
    candidate = np.tanh(candidate / (1 + np.exp(-reset)))
    expected = update * candidate + (1 - update) * state
    np.testing.assert_allclose(after.world_model.rssm._cell(x, state), expected, atol=1e-5)
    assert np.abs(before.world_model.rssm._cell(x, state) - expected).max() > 1e-3
    # Beyond the cell nothing differs: the same state gives the same predictions.
    feat = np.linspace(-1, 1, before.world_model.rssm.feat_size, dtype=np.float32)[None]
    for make in (lambda a: a.world_model.decoder(feat)["image"], lambda a: a.behavior.actor(feat)):
        np.testing.assert_array_equal(make(before), make(after))


def test_no_discrete_latents_makes_them_gaussian() -> None:
    before, after = build(), build("no_discrete_latents")
    data = batch(IMAGE)
    _, outputs, _ = after.world_model.loss(data, None, SEED)
    assert outputs.post.keys() == outputs.prior.keys() == {"deter", "stoch", "mean", "std"}
    assert outputs.post["stoch"].shape == (2, 4, 3)
    assert float(tf.reduce_min(outputs.post["std"])) > 0.1
    # Samples are reparameterised: they move as the mean does.
    mean, std = outputs.post["mean"], outputs.post["std"]
    with tf.GradientTape() as tape:
        tape.watch(mean)
        stoch = after.world_model.rssm.latents.draw({"mean": mean, "std": std}, SEED, "float32")
    np.testing.assert_array_equal(tape.gradient(stoch, mean), np.ones(mean.shape))
    # Only the weights that read or write the latents have another shape.
    assert weights(before).keys() == weights(after).keys()
    other = {k for k, v in weights(after).items() if v.shape != weights(before)[k].shape}
    written = {f"rssm/{name}/{kind}" for name in ("img_dist_0", "obs_dist")
               for kind in ("kernel", "bias")}  # fmt: skip
    read = {f"{head}/stack/dense0/kernel" for head in ("reward", "discount", *BEHAVIOR)}
    assert other == written | read | {"rssm/img_in/kernel", "decoder/convin/kernel"}
    embed = [agent.world_model.encoder(agent.world_model.preprocess(data))
             for agent in (before, after)]  # fmt: skip
    np.testing.assert_array_equal(*embed)


class Behavior:
    """Gradients of actor and critic of a configuration on one imagined batch.

    Attributes:
        through: Of the actor's loss.
        constants: Of the actor's loss with the imagined sequence held constant: reinforce, entropy.
        entropy: Of the actor's loss with targets equal to baselines too: the entropy bonus alone.
        by_target: The largest gradient of the actor's loss with regard to the targets.
        critic: Of the critic's loss.
    """

    def __init__(self, *names: str) -> None:
        agent = build(*names)
        model, behavior, step = agent.world_model, agent.behavior, tf.constant(0)
        data = batch(IMAGE)
        _, outputs, _ = model.loss(data, None, SEED)
        actor, critic = (
            {k: v for k, v in weights(agent).items() if k.startswith(f"{name}/")}
            for name in ("actor", "critic")
        )
        with tf.GradientTape(persistent=True) as tape:
            seq = model.imagine(behavior.actor, outputs.post, data["is_terminal"], 2, SEED)
            seq["value"] = behavior.slow_critic.dist(seq["feat"]).mode()
            target = behavior.target(seq)
            loss, _ = behavior.actor_loss(seq, target, step)
            fixed = {key: tf.stop_gradient(value) for key, value in seq.items()}
            constants, _ = behavior.actor_loss(fixed, tf.stop_gradient(target), step)
            zero = tf.zeros_like(seq["reward"])
            entropy, _ = behavior.actor_loss({**fixed, "value": zero}, zero[:-1], step)
            critic_loss, _ = behavior.critic_loss(seq, target)

        def gradients(loss: tf.Tensor, variables: dict[str, tf.Variable]) -> Grads:
            grads = tape.gradient(loss, list(variables.values()))
            return {k: np.asarray(g) for k, g in zip(variables, grads, strict=True)}

        self.through = gradients(loss, actor)
        self.constants = gradients(constants, actor)
        self.entropy = gradients(entropy, actor)
        self.critic = gradients(critic_loss, critic)
        by_target = tape.gradient(loss, target, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        self.by_target = float(np.abs(by_target).max())


def minus(left: Grads, right: Grads, scale: float = 1.0) -> Grads:
    return {key: scale * (left[key] - right[key]) for key in left}


def test_no_policy_reinforce_leaves_the_path_through_the_model_and_the_entropy() -> None:
    before, after = Behavior("atari"), Behavior("atari", "no_policy_reinforce")
    assert largest(minus(before.constants, before.entropy)) > 1e-4
    assert before.by_target == 0
    assert_same(after.constants, after.entropy)
    assert after.by_target > 0 and largest(minus(after.through, after.entropy)) > 1e-4
    assert_same(after.entropy, before.entropy)
    assert_same(after.critic, before.critic)


def test_no_straight_through_leaves_reinforce_and_the_entropy() -> None:
    before, after = Behavior("atari_schedules"), Behavior("atari_schedules", "no_straight_through")
    assert before.by_target > 0
    assert largest(minus(before.through, before.constants)) > 1e-4
    assert after.by_target == 0
    assert_same(after.through, after.constants)
    # It is the share of reinforce in the mixture, whole: at step 0 that share is 0.9.
    reinforce = minus(after.through, after.entropy, 0.9)
    assert_same(reinforce, minus(before.constants, before.entropy))
    assert_same(after.entropy, before.entropy)
    assert_same(after.critic, before.critic)


@pytest.mark.parametrize("act", [DISCRETE, CONTINUOUS], ids=lambda act: act.kind)
def test_random_data_asks_no_network_for_actions(act: ActSpec) -> None:
    agent = build("random_data", act=act)
    assert {agent.training_mode(step) for step in (0, 50_000, 10**9)} == {"explore"}
    data = {k: v for k, v in batch(IMAGE, act, (400,)).items() if k != "action"}
    actions = np.asarray(agent.policy(data, None, "explore")[0])
    if act.kind == "discrete":
        assert np.abs(actions.mean(0) - 1 / act.dim).max() < 4 * np.sqrt(1 / act.dim / 400)
    else:
        assert np.abs(actions).max() <= 1 and np.abs(actions.mean(0)).max() < 0.15
        np.testing.assert_allclose(actions.std(0), 1 / np.sqrt(3), atol=0.06)


def test_random_data_collects_a_whole_run_so(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, list[str]] = {"train": [], "eval": []}
    policy = Agent.policy

    def spy(self: Agent, obs: Any, state: Any = None, mode: str = "train") -> Any:
        asked["eval" if mode == "eval" else "train"].append(mode)
        return policy(self, obs, state, mode)

    monkeypatch.setattr(Agent, "policy", spy)
    config = flags.build(DOCUMENT, ["debug", "random_data"]).update({
        **SIZES, "logdir": str(tmp_path), "steps": 40, "prefill": 20, "time_limit": 10,
        "train_every": 0, "pretrain": 0,
    })  # fmt: skip
    run(config)
    assert len(asked["train"]) >= 20 and set(asked["train"]) == {"explore"}
    assert asked["eval"]


def run(config: Config) -> None:
    loop.run(config, lambda mode, seed: tasks.make_env(config, mode, seed))
