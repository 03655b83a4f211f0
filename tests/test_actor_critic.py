import numpy as np
import pytest
import tensorflow as tf
from test_returns import oracle
from tiny import CONTINUOUS, DISCRETE, MULTI, agent, batch, randomize, same, softmax, values

from dreamerv2.actor_critic import RewardNorm

SEED = tf.constant([1, 2])
STEP = tf.constant(50, tf.int64)
HORIZON, COUNT = 3, 5


def tiny_agent(changes=None, act=DISCRETE):
    result = agent(changes, act=act)
    behavior = result.behavior
    heads = {behavior.actor, behavior.critic, behavior.slow_critic}
    for i, head in enumerate(sorted(heads, key=lambda head: head.name)):
        randomize(head.variables, seed=i)
    randomize(result.world_model.variables, seed=9, scale=0.3)
    return result


def behavior_of(changes=None, act=DISCRETE):
    return tiny_agent(changes, act).behavior


def sequence(behavior, act=DISCRETE, size=18):
    """Return an imagined sequence of random numbers, and its targets."""
    rng = np.random.default_rng(0)
    shape = (HORIZON + 1, COUNT)
    seq = {
        "feat": rng.normal(size=(*shape, size)),
        "action": act.sample(rng, np.prod(shape)).reshape((*shape, act.dim)),
        "reward": rng.normal(size=shape),
        "discount": rng.uniform(0.5, 1, shape),
        "weight": rng.uniform(0.1, 1, shape),
        "value": rng.normal(size=shape),
    }
    seq = {key: tf.constant(value, tf.float32) for key, value in seq.items()}
    return seq, behavior.target(seq)


def head_parameters(head, feat):
    """Return the raw outputs of a head with one hidden layer, in NumPy."""
    w = {v.path.split("/", 1)[1]: np.array(v) for v in head.variables}
    x = np.array(feat) @ w["stack/dense0/kernel"] + w["stack/dense0/bias"]
    x = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
    return x @ w["out/out/kernel"] + w["out/out/bias"]


def imagined(tiny, seed=SEED, act=DISCRETE):
    """Return loss and tape of one imagination from the states of a batch."""
    data = batch(act=act)
    _, outputs, _ = tiny.world_model.loss(data)
    behavior = tiny.behavior
    with tf.GradientTape(persistent=True) as tape:
        seq = tiny.world_model.imagine(behavior.actor, outputs.post, data["is_terminal"], 3, seed)
        seq["value"] = behavior.slow_critic.dist(seq["feat"]).mode()
        loss, _ = behavior.actor_loss(seq, behavior.target(seq), STEP)
    return loss, tape


def largest(tape, loss, layer):
    grads = tape.gradient(loss, [v.value for v in layer.trainable_variables])
    return max((float(np.abs(g).max()) for g in grads if g is not None), default=0.0)


@pytest.mark.parametrize("compiled", [False, True])
def test_reward_norm(compiled):
    norm = RewardNorm(momentum=0.9, scale=2.0, eps=1e-3)
    call = tf.function(norm) if compiled else norm
    magnitude = 1.0
    for seed in range(4):
        reward = np.random.default_rng(seed).normal(3.0, 5.0, (4, 6)).astype(np.float32)
        normed, metrics = call(tf.constant(reward))
        magnitude = 0.9 * magnitude + 0.1 * np.abs(reward).mean()
        np.testing.assert_allclose(normed, reward / (magnitude + 1e-3) * 2, rtol=1e-4)
        assert float(norm.magnitude) == pytest.approx(magnitude, rel=1e-5)
        expected = [reward.mean(), reward.std(), np.mean(normed), np.std(normed)]
        names = ("reward_mean", "reward_std", "reward_normed_mean", "reward_normed_std")
        np.testing.assert_allclose([metrics[n] for n in names], expected, rtol=1e-3)


def test_a_momentum_of_one_changes_nothing():
    norm = RewardNorm(momentum=1.0, scale=1.0, eps=1e-8)
    reward = np.array([-7.0, 0.0, 100.0], np.float32)
    for _ in range(3):
        np.testing.assert_allclose(norm(tf.constant(reward))[0], reward, rtol=1e-6)
    assert float(norm.magnitude) == 1.0


@pytest.mark.parametrize("momentum", [0.9, 1.0])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_rewards_do_not_spoil_the_magnitude(bad, momentum):
    norm = RewardNorm(momentum=momentum, scale=1.0, eps=1e-8)
    norm(tf.constant([1.0, bad]))
    assert float(norm.magnitude) == 1.0


def test_target_is_the_lambda_return_of_all_but_the_last_state():
    behavior = behavior_of({"discount_lambda": 0.7})
    seq, target = sequence(behavior)
    arrays = [np.array(seq[key]) for key in ("reward", "value", "discount")]
    expected = oracle(*(array[:-1] for array in arrays), np.array(seq["value"])[-1], 0.7)
    assert target.shape == (HORIZON, COUNT)
    np.testing.assert_allclose(target, expected, rtol=1e-4, atol=1e-5)


def np_actor(behavior, seq, scale):
    """Return weights, log-probabilities of the actions and the entropy bonus, in NumPy."""
    probs = softmax(head_parameters(behavior.actor, seq["feat"][:-2]))
    log_prob = np.log((probs * np.array(seq["action"])[1:-1]).sum(-1))
    entropy = -(probs * np.log(probs)).sum(-1)
    return np.array(seq["weight"])[:-2], log_prob, scale * entropy


def test_reinforce_loss_against_numpy():
    behavior = behavior_of({"actor_ent": "linear(0,0.1,100)"})
    seq, target = sequence(behavior)
    loss, metrics = behavior.actor_loss(seq, target, STEP)
    weight, log_prob, bonus = np_actor(behavior, seq, 0.05)
    advantage = np.array(target)[1:] - np.array(seq["value"])[:-2]
    expected = -np.mean(weight * (log_prob * advantage + bonus))
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert float(metrics["actor_ent_scale"]) == pytest.approx(0.05)
    assert float(metrics["actor_ent"]) == pytest.approx(bonus.mean() / 0.05, rel=1e-4)


def test_dynamics_loss_against_numpy():
    behavior = behavior_of({"actor_grad": "dynamics", "actor_ent": 0.3})
    seq, target = sequence(behavior)
    weight, _, bonus = np_actor(behavior, seq, 0.3)
    expected = -np.mean(weight * (np.array(target)[1:] + bonus))
    assert float(behavior.actor_loss(seq, target, STEP)[0]) == pytest.approx(expected, rel=1e-4)


def test_both_is_the_mix_of_the_two():
    losses = {}
    for grad in ("reinforce", "dynamics", "both"):
        behavior = behavior_of({"actor_grad": grad, "actor_grad_mix": "linear(0,1,200)"})
        seq, target = sequence(behavior)
        loss, metrics = behavior.actor_loss(seq, target, STEP)
        losses[grad] = float(loss)
    assert float(metrics["actor_grad_mix"]) == 0.25
    expected = 0.25 * losses["dynamics"] + 0.75 * losses["reinforce"]
    assert losses["both"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("act", [DISCRETE, MULTI, CONTINUOUS], ids=lambda act: act.kind)
def test_auto_fits_the_action_space(act):
    losses = {}
    for grad in ("auto", "reinforce", "dynamics"):
        behavior = behavior_of({"actor_grad": grad}, act)
        losses[grad] = float(behavior.actor_loss(*sequence(behavior, act), STEP)[0])
    fitting = "dynamics" if act.kind == "continuous" else "reinforce"
    assert losses["auto"] == losses[fitting]
    assert losses["dynamics"] != losses["reinforce"]


@pytest.mark.parametrize("grad", ["reinforce", "both"])
def test_the_gradient_of_an_action_does_not_leak_into_its_log_probability(grad):
    behavior = behavior_of({"actor_grad": grad})
    seq, target = sequence(behavior)
    with tf.GradientTape() as tape:
        tape.watch(seq)
        loss, _ = behavior.actor_loss(seq, tf.constant(target), STEP)
    grads = tape.gradient(loss, seq, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    for key in ("action", "feat", "weight", "value"):
        assert not np.any(grads[key]), key


def test_reinforce_has_no_gradient_through_the_dynamics():
    for grad, mix in [("reinforce", 0), ("both", 0.0), ("both", 0.5), ("dynamics", 0)]:
        tiny = tiny_agent({"actor_grad": grad, "actor_grad_mix": mix})
        loss, tape = imagined(tiny)
        through = [largest(tape, loss, layer) for layer in tiny.world_model.layers]
        expect_dynamics = grad == "dynamics" or mix > 0
        assert (max(through) > 0) == expect_dynamics, (grad, mix)
        assert largest(tape, loss, tiny.behavior.actor) > 0


@pytest.mark.parametrize("act", [DISCRETE, CONTINUOUS], ids=lambda act: act.kind)
def test_dynamics_gradients_pass_through_actions(act):
    tiny = tiny_agent({"actor_grad": "dynamics", "actor_ent": 0.0}, act)
    loss, tape = imagined(tiny, act=act)
    assert largest(tape, loss, tiny.behavior.actor) > 1e-6


def test_critic_loss_against_numpy():
    behavior = behavior_of()
    seq, target = sequence(behavior)
    with tf.GradientTape() as tape:
        tape.watch([seq, target])
        loss, metrics = behavior.critic_loss(seq, target)
    mean = head_parameters(behavior.critic, seq["feat"][:-1])[..., 0]
    log_prob = -0.5 * (np.array(target) - mean) ** 2 - 0.5 * np.log(2 * np.pi)
    expected = -np.mean(log_prob * np.array(seq["weight"])[:-1])
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert float(metrics["critic"]) == pytest.approx(mean.mean(), rel=1e-3)
    sources = [target, *seq.values()]
    assert all(grad is None for grad in tape.gradient(loss, sources))


@pytest.mark.parametrize("slow", [True, False])
def test_slow_baseline(slow):
    behavior = behavior_of({"slow_baseline": slow, "actor_ent": 0.0})
    seq, target = sequence(behavior)
    baseline = np.array(seq["value"])
    if not slow:
        baseline = head_parameters(behavior.critic, seq["feat"])[..., 0]
    weight, log_prob, _ = np_actor(behavior, seq, 0.0)
    expected = -np.mean(weight * log_prob * (np.array(target)[1:] - baseline[:-2]))
    assert float(behavior.actor_loss(seq, target, STEP)[0]) == pytest.approx(expected, rel=1e-4)


def weights(head):
    return [np.array(v) for v in head.variables]


def assert_equal(left, right, **tolerance):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a, b, **{"rtol": 1e-6, "atol": 0, **tolerance})


@pytest.mark.parametrize("compiled", [False, True])
def test_slow_critic_copies_first_then_every_few_updates(compiled):
    behavior = behavior_of({"slow_target_update": 3, "slow_target_fraction": 0.25})
    refresh = behavior._update_slow_critic
    refresh = tf.function(refresh, autograph=False) if compiled else refresh
    assert np.any(weights(behavior.critic)[0] != weights(behavior.slow_critic)[0])
    expected = None
    for update in range(7):
        randomize(behavior.critic.variables, seed=100 + update)
        refresh()
        new = weights(behavior.critic)
        if update == 0:
            expected = new
        elif update in (3, 6):
            expected = [0.25 * n + 0.75 * s for n, s in zip(new, expected, strict=True)]
        assert_equal(weights(behavior.slow_critic), expected, atol=1e-6)
    assert int(behavior.state()["updates"]) == 7


def test_without_slow_target_there_is_one_critic():
    tiny = tiny_agent({"slow_target": False})
    assert tiny.behavior.slow_critic is tiny.behavior.critic
    assert not any("slow" in key for key in tiny.variables())
    tiny.train(batch(), 0)
    assert int(tiny.behavior.state()["updates"]) == 0


def test_an_update_changes_actor_and_critic_but_not_the_world_model():
    tiny = tiny_agent()
    data = batch()
    _, outputs, _ = tiny.world_model.loss(data)
    behavior, world_model = tiny.behavior, tiny.world_model
    before = values({v.path: v.value for v in world_model.variables})
    heads = [weights(head) for head in (behavior.actor, behavior.critic)]
    metrics = behavior.train(
        world_model, outputs.post, data["is_terminal"], lambda seq: seq["reward"], STEP, SEED
    )
    assert same(before, values({v.path: v.value for v in world_model.variables}))
    for old, head in zip(heads, (behavior.actor, behavior.critic), strict=True):
        assert all(np.any(a != b) for a, b in zip(old, weights(head), strict=True))
    assert_equal(weights(behavior.slow_critic), weights(behavior.critic))
    assert all(value.shape == () and value.dtype == tf.float32 for value in metrics.values())
    assert all(np.isfinite(value) for value in metrics.values())


def test_rewards_come_from_the_given_function_and_are_normalised():
    tiny = tiny_agent({"reward_norm": {"momentum": 0.0, "scale": 3.0, "eps": 1e-8}})
    data = batch()
    _, outputs, _ = tiny.world_model.loss(data)
    metrics = tiny.behavior.train(
        tiny.world_model, outputs.post, data["is_terminal"],
        lambda seq: 10.0 * tf.ones_like(seq["reward"]), STEP, SEED,
    )  # fmt: skip
    assert float(metrics["reward_mean"]) == pytest.approx(10)
    assert float(metrics["reward_normed_mean"]) == pytest.approx(3)
    assert float(tiny.behavior.state()["reward_magnitude"]) == pytest.approx(10)
