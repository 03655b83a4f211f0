"""Our agent against numbers that the published code computed, for the same weights and inputs.

Every random draw is replaced by the mode. Whatever a file contains is compared: a key that this
test does not know fails it. Tolerances are those that float32 reaches: rtol 1e-4 and atol 1e-5,
gradients within 1e-3 of the tensor's largest entry.
"""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

import dreamerv2
from dreamerv2.agent import Agent
from dreamerv2.common import flags
from dreamerv2.common.envs.spaces import ActSpec, ObsSpec

CONFIGS = pathlib.Path(dreamerv2.__file__).parent / "configs.yaml"
TRANSITION = ("reward", "is_first", "is_last", "is_terminal", "action", "discount")


class Golden:
    """One file: the numbers, and our agent built from its configuration and weights."""

    def __init__(self, path: pathlib.Path) -> None:
        with np.load(path) as data:
            self.data = {key: data[key] for key in data.files}
        self.case = json.loads(str(self.data.pop("case")))
        settings = json.loads(str(self.data.pop("config_json")))
        defaults = flags.build(CONFIGS)
        known = {key: value for key, value in settings.items() if key in defaults.flat}
        self.config = defaults.update({**known, "jit": "graph", "eval_state_mean": True})
        self.agent = self.build()
        self.used: set[str] = set()

    def build(self) -> Agent:
        obs = {
            key: ObsSpec(tuple(shape), np.dtype(dtype))
            for key, (shape, dtype) in self.case["obs"].items()
            if key not in TRANSITION
        }
        kind = "discrete" if self.case["discrete"] else "continuous"
        agent = Agent(self.config, obs, ActSpec(kind, (self.case["actions"],)))
        weights = self.group("weights")
        ours = named_weights(agent)
        assert ours.keys() == weights.keys()
        for name, variable in ours.items():
            variable.assign(weights[name])
        return agent

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        start = prefix + "/"
        return {k[len(start) :]: v for k, v in self.data.items() if k.startswith(start)}

    def batch(self, index: int) -> dict[str, np.ndarray]:
        return self.group(f"batch{index}")


def named_weights(agent: Agent) -> dict[str, tf.Variable]:
    """Return weights under the descriptive names that golden files use."""
    result = {}
    for path, variable in agent.variables().items():
        kind, _, name = path.partition("/")
        if kind == "weights":
            for ours, theirs in [
                ("/stack/", "/"), ("/mlp/", "/"), ("gru/gates/", "gru/"), ("gru/norm/", "gru_norm/")
            ]:  # fmt: skip
                name = name.replace(ours, theirs)
            result[name] = variable
    return result


@pytest.fixture(scope="module")
def golden(golden_path: pathlib.Path) -> Golden:
    return Golden(golden_path)


def close(actual: object, expected: np.ndarray, name: str, **tolerance: float) -> None:
    actual = np.asarray(actual)
    assert actual.shape == expected.shape, (name, actual.shape, expected.shape)
    np.testing.assert_allclose(
        actual, expected, **{"rtol": 1e-4, "atol": 1e-5, **tolerance}, err_msg=name
    )


def close_gradients(grads: dict[str, tf.Tensor], expected: dict[str, np.ndarray]) -> None:
    assert grads.keys() == expected.keys()
    for name, grad in grads.items():
        scale = float(np.abs(expected[name]).max())
        close(grad, expected[name], name, rtol=0.0, atol=1e-3 * scale + 1e-8)


def gradients(
    tape: tf.GradientTape, loss: tf.Tensor, agent: Agent, modules: tuple[str, ...]
) -> dict[str, tf.Tensor]:
    weights = {k: v for k, v in named_weights(agent).items() if k.split("/")[0] in modules}
    grads = tape.gradient(
        loss, list(weights.values()), unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return dict(zip(weights, grads, strict=True))


def test_world_model(golden: Golden) -> None:
    model = golden.agent.world_model
    expected = golden.group("wm")
    with tf.GradientTape() as tape:
        loss, outputs, metrics = model.loss(golden.batch(0))
    modules = ("encoder", "rssm", "decoder", "reward", "discount")
    grads = gradients(tape, loss, golden.agent, modules)
    close(loss, expected.pop("model_loss"), "model_loss")
    close(outputs.embed, expected.pop("embed"), "embed")
    close(outputs.feat, expected.pop("feat"), "feat")
    close(outputs.kl, expected.pop("kl_value"), "kl_value")
    close(tf.linalg.global_norm(list(grads.values())), expected.pop("grad_global_norm"), "norm")
    for name, values in [
        ("post", outputs.post), ("prior", outputs.prior),
        ("log_prob", outputs.log_probs), ("metric", metrics),
    ]:  # fmt: skip
        keys = {key for key in expected if key.startswith(name + "/")}
        assert {key.partition("/")[2] for key in keys} == values.keys()
        for key in keys:
            close(values[key.partition("/")[2]], expected.pop(key), f"{name}/{key}")
    found = {key[5:]: expected.pop(key) for key in list(expected) if key.startswith("grad/")}
    close_gradients(grads, found)
    assert not expected, f"not compared: {list(expected)}"


def test_actor_critic(golden: Golden) -> None:
    agent, behavior = golden.agent, golden.agent.behavior
    expected = golden.group("ac")
    data = golden.batch(0)
    _, outputs, _ = agent.world_model.loss(data)
    with tf.GradientTape(persistent=True) as tape:
        seq = agent.world_model.imagine(
            behavior.actor, outputs.post, data["is_terminal"], golden.config.imag_horizon, None
        )
        seq["value"] = behavior.slow_critic.dist(seq["feat"]).mode()
        target = behavior.target(seq)
        actor_loss, metrics = behavior.actor_loss(seq, target, tf.constant(0))
        critic_loss, _ = behavior.critic_loss(seq, target)
    for key in ("feat", "action", "reward", "discount", "weight"):
        close(seq[key], expected.pop(key), key)
    close(target, expected.pop("target"), "target")
    close(actor_loss, expected.pop("actor_loss"), "actor_loss")
    close(critic_loss, expected.pop("critic_loss"), "critic_loss")
    close(metrics["actor_ent"], expected.pop("actor_ent"), "actor_ent")
    grads = {
        **gradients(tape, actor_loss, agent, ("actor",)),
        **gradients(tape, critic_loss, agent, ("critic",)),
    }
    close_gradients(grads, {k[5:]: expected.pop(k) for k in list(expected) if "grad/" in k})
    assert not expected, f"not compared: {list(expected)}"


def test_three_updates_and_policy(golden: Golden) -> None:
    agent = golden.build()
    state = None
    for index in range(3):
        state, metrics = agent.train(golden.batch(index), 0, state, sample=False)
        for key, value in golden.group(f"train{index}").items():
            close(metrics[key], value.astype(np.float32), f"train{index}/{key}")
    weights = named_weights(agent)
    expected = golden.group("after3")
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        close(weights[name], value, name, atol=2e-5)
    check_policy(golden, agent)


def check_policy(golden: Golden, agent: Agent) -> None:
    state = None
    data = {k: v for k, v in golden.batch(0).items() if k not in ("action", "discount")}
    for index in range(2):
        obs = {key: value[:, index] for key, value in data.items()}
        action, state = agent.policy(obs, state, mode="eval")
        for key, value in golden.group(f"policy{index}").items():
            close({"action": action, **state}[key], value, f"policy{index}/{key}", atol=2e-5)


def test_everything_is_compared(golden: Golden) -> None:
    compared = ("weights", "batch", "wm", "ac", "train", "after3", "policy")
    left = [key for key in golden.data if not key.startswith(compared)]
    assert not left
