"""Random, Plan2Explore and ModelLoss inside an agent: acting, training, resuming, ending."""

from __future__ import annotations

import json
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
from tiny import CONTINUOUS, DISCRETE, MULTI, VECTOR, agent, batch, randomize, same, values

from dreamerv2 import train
from dreamerv2.common.errors import UserError

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


def documented_metrics() -> set[str]:
    """Names in the table of docs/metrics.md, but for those of other settings."""
    text = (pathlib.Path(__file__).parents[1] / "docs" / "metrics.md").read_text()
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `expl_")]
    names = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    return {name for name in names if "loss_scale" not in name and "grad_mix" not in name}


@pytest.mark.parametrize("act", [DISCRETE, MULTI, CONTINUOUS], ids=lambda act: act.kind)
def test_random_actions_are_uniform_in_every_space(act):
    tiny = explorer(act=act, kind="Random")
    randomize(tiny.behavior.actor.variables, scale=3.0)
    action = np.array(tiny.policy(observation(act), mode="explore")[0])
    assert action.shape == (400, act.dim) and action.dtype == np.float32
    if act.kind == "continuous":
        assert np.abs(action).max() <= 1
        np.testing.assert_allclose(action.mean(0), 0, atol=0.12)
        np.testing.assert_allclose(action.std(0), 12**-0.5 * 2, atol=0.06)
        return
    for part in np.split(action, np.cumsum(act.sizes)[:-1], -1):
        np.testing.assert_array_equal(part.sum(-1), 1)
        np.testing.assert_allclose(part.mean(0), 1 / part.shape[-1], atol=0.1)


@pytest.mark.parametrize("act", [DISCRETE, MULTI, CONTINUOUS], ids=lambda act: act.kind)
@pytest.mark.parametrize("kind", LEARNING)
def test_exploration_acts_and_trains_in_every_space(kind, act):
    tiny = explorer({"expl_extr_scale": 0.1}, act=act, kind=kind)
    start = values(tiny.variables())
    metrics = metrics_of(tiny, 2, act)
    assert np.all(np.isfinite(list(metrics[-1].values())))
    documented = documented_metrics()
    assert {key for key in metrics[0] if key.startswith("expl_")} == documented
    after = values(tiny.variables())
    learned = {k for k in after if np.any(after[k] != start[k])}
    for part in ("actor", "critic", tiny.exploration.predictor[0].name):
        assert any(k.startswith(f"weights/exploration/{part}/") for k in learned), part
        assert any(k.startswith("optimizers/exploration/") for k in learned)
    randomize(tiny.exploration.behavior.actor.variables, scale=3.0)
    obs = observation(act, count=50)
    action, state = tiny.policy(obs, mode="explore")
    policy = tiny.exploration.dist(tiny.world_model.rssm.get_feat(state))
    assert np.mean(policy.log_prob(action)) > np.mean(policy.log_prob(tf.roll(action, 1, 0)))


def test_exploring_samples_the_latent_even_if_evaluation_takes_its_mode():
    tiny = explorer({"eval_state_mean": True})
    obs = observation(count=64)
    for mode, differ in (("explore", True), ("train", True), ("eval", False)):
        latents = [np.array(tiny.policy(obs, mode=mode)[1]["stoch"]) for _ in range(2)]
        assert np.any(latents[0] != latents[1]) == differ, mode


@pytest.mark.parametrize("kind", ["Random", *LEARNING])
def test_the_task_policy_learns_and_evaluates_as_without_exploration(kind):
    greedy, exploring = agent(), explorer(kind=kind)
    plain, rich = metrics_of(greedy), metrics_of(exploring)
    for left, right in zip(plain, rich, strict=True):
        assert left == {k: v for k, v in right.items() if not k.startswith("expl_")}
    shared = {k: v for k, v in exploring.variables().items() if "exploration/" not in k}
    assert same(values(greedy.variables()), values(shared))
    obs = observation(count=5)
    actions = []
    for tiny in (greedy, exploring):
        tiny.seed_evaluation(1)
        actions.append(tiny.policy(obs, mode="eval")[0])
    np.testing.assert_array_equal(*actions)


def test_greedy_has_no_part_of_it():
    tiny = agent()
    assert tiny.exploration is None
    assert not [key for key in tiny.variables() if "expl" in key]
    assert not [key for key in metrics_of(tiny, 1)[0] if "expl" in key]
    assert tiny.training_mode(0) == "train"


def test_exploration_ends_when_it_is_told():
    tiny = explorer({"expl_until": 100, "prefill": 50})
    assert [tiny.training_mode(step) for step in (0, 99, 100, 200)] == ["explore"] * 2 + [
        "train"
    ] * 2
    assert explorer().training_mode(10**9) == "explore"
    assert any(k.startswith("expl_") for k in metrics_of(tiny, 1, step=99)[0])
    before = values(tiny.variables())
    assert not [k for k in metrics_of(tiny, 1, step=100)[0] if k.startswith("expl_")]
    after = values(tiny.variables())
    changed = {k for k in after if np.any(after[k] != before[k])}
    assert changed and not [k for k in changed if "exploration/" in k]


@pytest.mark.parametrize("kind", LEARNING)
def test_restored_variables_give_the_same_next_update_and_action(kind):
    changes = {"expl_reward_norm.momentum": 0.9, "expl_extr_scale": 0.5, "slow_target_update": 2}
    one, other = (explorer(changes, kind=kind, seed=seed) for seed in (0, 5))
    metrics_of(one, 3)
    one.policy(observation(count=3), mode="explore")
    left, right = one.variables(), other.variables()
    assert left.keys() == right.keys()
    for key in ("behavior/exploration/intr_magnitude", "behavior/exploration/updates"):
        assert float(left[key]) not in (0.0, 1.0)
    for key, variable in left.items():
        right[key].assign(variable)
    assert metrics_of(one, 2) == metrics_of(other, 2)
    actions = [np.array(a.policy(observation(count=3), mode="explore")[0]) for a in (one, other)]
    np.testing.assert_array_equal(*actions)
    assert same(values(left), values(right))


@pytest.mark.parametrize(
    ("kind", "precision", "jit"),
    [("Plan2Explore", 16, "graph"), ("ModelLoss", "bfloat16", "off")],
)
def test_low_precision_compiled(kind, precision, jit):
    tiny = explorer({"precision": precision, "jit": jit, "disag_models": 2}, kind=kind)
    metrics = metrics_of(tiny, 4)
    assert metrics[-1]["expl_predictor_skipped"] == metrics[-1]["expl_actor_skipped"] == 0
    exact = metrics_of(explorer({"disag_models": 2}, kind=kind), 1)[0]
    assert metrics[0]["expl_predictor_loss"] == pytest.approx(exact["expl_predictor_loss"], rel=0.2)
    if jit == "graph":
        assert tiny._update_fn.experimental_get_tracing_count() == 1
    action, _ = tiny.policy(observation(count=3), mode="explore")
    assert action.dtype == tf.float32


@pytest.mark.slow
def test_xla_trains_the_ensemble():
    metrics = metrics_of(explorer({"jit": "xla", "disag_models": 2}), 2)
    assert np.all(np.isfinite(list(metrics[-1].values())))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"disag_offset": 50}, "disag_offset is 50, but the sequences of a batch have"),
        ({"expl_until": 100, "prefill": 100}, "expl_until is 100, but the first 100 agent steps"),
        ({"expl_behavior": "ModelLoss", "expl_model_loss": "image"}, "expl_model_loss is 'image'"),
    ],
)
def test_settings_that_do_not_go_together(changes, words):
    with pytest.raises(UserError, match=words):
        explorer(changes)


@pytest.mark.parametrize("kind", ["Random", "plan2explore", "model_loss"])
def test_from_the_command_line(tmp_path: pathlib.Path, kind: str) -> None:
    command = [
        "--configs", "vector", "debug", "--task", "gym_CartPole-v1", "--logdir", str(tmp_path),
        "--prefill", "40", "--train_every", "10", "--log_every", "20", "--eval_every", "0",
        "--eval_eps", "0", "--jit", "off", "--expl_behavior", kind, "--expl_until", "80",
    ]  # fmt: skip
    for steps in ("60", "100") if kind == "plan2explore" else ("100",):
        assert train.main([*command, "--steps", steps]) == 0
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    learned = [row["step"] for row in rows if "expl_actor_loss" in row]
    assert bool(learned) == (kind != "Random")
    # The line after the end of exploration still has updates from before it.
    assert all(step <= 81 for step in learned)
    assert rows[-1]["step"] == 100 and "actor_loss" in rows[-1]
