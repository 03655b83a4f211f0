import numpy as np
import pytest
import tensorflow as tf
from tiny import CONTINUOUS, DISCRETE, IMAGE, MULTI, VECTOR, agent, batch, randomize, same, values

from dreamerv2.common.errors import UserError

MIXED = {**IMAGE, **VECTOR}
SEED = tf.constant([1, 2])


def model(changes=None, obs=VECTOR, act=DISCRETE):
    result = agent(changes, obs, act).world_model
    randomize(result.variables, scale=0.3)
    return result


def gradients(world_model, data):
    """Return the largest gradient of the loss in each module, by name."""
    with tf.GradientTape() as tape:
        loss, _, _ = world_model.loss(data)
    none = tf.UnconnectedGradients.ZERO
    variables = {layer.name: [v.value for v in layer.trainable_variables]
                 for layer in world_model.layers}  # fmt: skip
    grads = tape.gradient(loss, variables, unconnected_gradients=none)
    return {name: max((np.abs(g).max() for g in part), default=0) for name, part in grads.items()}


def test_preprocess():
    data = batch(MIXED)
    data["log_score"] = np.ones((2, 4), np.float32)
    data["count"] = np.arange(8, dtype=np.int64).reshape(2, 4, 1)
    result = model({"clip_rewards": "identity", "discount": 0.9}).preprocess(data)
    assert result.keys() == {*data} - {"log_score"} | {"discount"}
    np.testing.assert_allclose(result["image"], data["image"] / 255.0 - 0.5, atol=1e-6)
    np.testing.assert_array_equal(result["vector"], data["vector"])
    assert result["count"].dtype == tf.float32
    assert result["is_first"].dtype == tf.bool
    np.testing.assert_allclose(result["discount"], np.where(data["is_terminal"], 0, 0.9))
    assert not np.all(result["discount"])
    # A time limit is no end: only is_terminal counts.
    data["is_last"][:], data["is_terminal"][:] = True, False
    discount = model({"discount": 0.9}).preprocess(data)["discount"]
    np.testing.assert_allclose(discount, np.full((2, 4), 0.9), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"), [("identity", [-3, 0, 0.5]), ("sign", [-1, 0, 1]),
                           ("tanh", np.tanh([-3, 0, 0.5]))],
)  # fmt: skip
def test_reward_transforms(name, expected):
    data = batch(leading=(1, 3))
    data["reward"] = np.array([[-3, 0, 0.5]], np.float32)
    reward = model({"clip_rewards": name}).preprocess(data)["reward"]
    np.testing.assert_allclose(reward[0], expected, rtol=1e-5)


def test_the_loss_is_the_scaled_sum_of_its_parts():
    scales = {"kl": 0.5, "reward": 2.0, "discount": 3.0, "image": 0.25, "proprio": 7.0}
    world_model = model({"loss_scales": scales}, MIXED)
    loss, outputs, metrics = world_model.loss(batch(MIXED))
    assert outputs.log_probs.keys() == {"image", "vector", "reward", "discount"}
    parts = {name: -np.mean(value) for name, value in outputs.log_probs.items()}
    for name, value in parts.items():
        assert outputs.log_probs[name].shape == (2, 4)
        assert float(metrics[f"{name}_loss"]) == pytest.approx(value, rel=1e-5)
    expected = (
        0.25 * parts["image"] + 7 * parts["vector"] + 2 * parts["reward"] + 3 * parts["discount"]
        + 0.5 * np.mean(outputs.kl)
    )  # fmt: skip
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert float(metrics["model_kl"]) == pytest.approx(np.mean(outputs.kl), rel=1e-4)
    assert float(metrics["kl_loss"]) == pytest.approx(np.mean(outputs.kl), rel=1e-4)
    for name, state in [("prior_ent", outputs.prior), ("post_ent", outputs.post)]:
        entropy = np.mean(world_model.rssm.get_dist(state).entropy())
        assert float(metrics[name]) == pytest.approx(entropy, rel=1e-4)


def test_log_probs_are_those_of_the_heads():
    world_model = model({"clip_rewards": "sign"}, MIXED)
    data = batch(MIXED)
    _, outputs, _ = world_model.loss(data)
    reward = world_model.heads["reward"].dist(outputs.feat)
    np.testing.assert_allclose(
        outputs.log_probs["reward"], reward.log_prob(np.sign(data["reward"])), rtol=1e-4, atol=1e-5
    )
    vector = world_model.decoder.dist(outputs.feat)["vector"]
    np.testing.assert_allclose(
        outputs.log_probs["vector"], vector.log_prob(data["vector"]), rtol=1e-4
    )
    np.testing.assert_allclose(outputs.embed, world_model.encoder(world_model.preprocess(data)))


@pytest.mark.parametrize("head", ["decoder", "reward", "discount"])
def test_only_grad_heads_shape_the_representation(head):
    others = {"decoder", "reward", "discount"} - {head}
    alone = {"loss_scales.kl": 0.0, r"loss_scales\.(image|proprio|reward|discount)": 0.0}
    alone |= {f"loss_scales.{k}": 1.0 for k in ("image", "proprio") if head == "decoder"}
    alone |= {f"loss_scales.{head}": 1.0} if head != "decoder" else {}
    attached = gradients(model({**alone, "grad_heads": [head]}), batch())
    detached = gradients(model({**alone, "grad_heads": sorted(others)}), batch())
    assert attached["encoder"] > 0
    assert attached["rssm"] > 0
    assert detached["encoder"] == detached["rssm"] == 0
    assert attached[head] == pytest.approx(detached[head], rel=1e-4)
    assert detached[head] > 0
    assert all(detached[other] == 0 for other in others)


def test_unknown_grad_heads_are_refused():
    from dreamerv2.world_model import WorldModel

    world_model = model()
    with pytest.raises(UserError, match=r"grad_heads names 'image'; choose from decoder, reward"):
        WorldModel._check_grad_heads(world_model, ["decoder", "image"])


@pytest.mark.parametrize("key", ["kl", "reward", "discount", "model", "actor", "critic"])
def test_observations_must_not_be_named_like_a_loss(key):
    with pytest.raises(UserError, match=f"the observation '{key}' has the name of a loss"):
        agent(obs={**VECTOR, key: VECTOR["vector"]})


@pytest.mark.parametrize(
    ("obs", "act", "changes"),
    [
        (VECTOR, MULTI, {"rssm.ensemble": 2}), (VECTOR, CONTINUOUS, {"rssm.discrete": False}),
    ],
)  # fmt: skip
def test_training_lowers_the_loss_of_a_batch(obs, act, changes):
    world_model = agent({"model_opt.lr": 3e-3, **changes}, obs, act).world_model
    data = {key: tf.constant(value) for key, value in batch(obs, act).items()}
    train = tf.function(lambda: world_model.train(data, None, None)[2]["model_loss"])
    losses = [float(train()) for _ in range(40)]
    assert losses[-1] < losses[0] - 0.5
    assert np.all(np.isfinite(losses))


def test_train_returns_the_last_state_and_continues_from_it():
    world_model = agent().world_model
    data = batch(leading=(2, 6))
    data["is_first"][:, 3] = False
    _, whole, _ = world_model.loss(data)
    left = {key: value[:, :3] for key, value in data.items()}
    right = {key: value[:, 3:] for key, value in data.items()}
    _, first, _ = world_model.loss(left)
    _, second, _ = world_model.loss(right, {k: v[:, -1] for k, v in first.post.items()})
    np.testing.assert_allclose(second.feat, whole.feat[:, 3:], atol=1e-5)
    state, outputs, _ = world_model.train(data, None, None)
    for key in state:
        np.testing.assert_array_equal(state[key], outputs.post[key][:, -1])


def test_without_discount_head():
    world_model = model({"pred_discount": False, "discount": 0.8})
    assert world_model.heads.keys() == {"reward"}
    data = batch()
    _, outputs, metrics = world_model.loss(data)
    assert "discount_loss" not in metrics
    actor = agent().behavior.actor
    seq = world_model.imagine(actor, outputs.post, data["is_terminal"], 3, SEED)
    np.testing.assert_allclose(seq["discount"], np.full((4, 8), 0.8), rtol=1e-6)
    np.testing.assert_allclose(seq["weight"][:, 0], 0.8 ** np.arange(4), rtol=1e-5)


@pytest.mark.parametrize(
    ("act", "seed"), [(DISCRETE, None), (DISCRETE, SEED), (MULTI, SEED), (CONTINUOUS, SEED)]
)
def test_imagination(act, seed):
    tiny = agent({"discount": 0.9}, act=act)
    world_model, actor = tiny.world_model, tiny.behavior.actor
    randomize([*world_model.variables, *actor.variables], scale=0.5)
    data = batch(act=act)
    _, outputs, _ = world_model.loss(data)
    seq = world_model.imagine(actor, outputs.post, data["is_terminal"], 3, seed)
    count = 2 * 4
    shapes = {"deter": (6,), "stoch": (3, 4), "feat": (18,), "action": (act.dim,)}
    shapes |= {"reward": (), "discount": (), "weight": ()}
    assert {k: v.shape for k, v in seq.items()} == {k: (4, count, *s) for k, s in shapes.items()}
    np.testing.assert_array_equal(seq["feat"][0], tf.reshape(outputs.feat, [count, 18]))
    assert not np.any(seq["action"][0])
    for t in range(1, 4):
        # action[t] was chosen at state t-1 and led to state t.
        policy = actor.dist(seq["feat"][t - 1])
        if seed is None:
            np.testing.assert_allclose(seq["action"][t], policy.mode(), atol=1e-5)
        assert np.all(np.isfinite(policy.log_prob(seq["action"][t])))
        before = {"stoch": seq["stoch"][t - 1], "deter": seq["deter"][t - 1]}
        state = world_model.rssm.img_step(before, seq["action"][t])
        np.testing.assert_allclose(seq["deter"][t], state["deter"], atol=1e-5)
        np.testing.assert_allclose(seq["reward"][t], world_model.heads["reward"].dist(
            seq["feat"][t]).mode(), atol=1e-5)  # fmt: skip
    terminal = data["is_terminal"].reshape(count)
    np.testing.assert_allclose(seq["discount"][0], 0.9 * ~terminal, rtol=1e-6)
    predicted = world_model.heads["discount"].dist(seq["feat"]).mean()
    np.testing.assert_allclose(seq["discount"][1:], predicted[1:], rtol=1e-4)
    weight = np.cumprod(np.concatenate([np.ones((1, count)), seq["discount"][:-1]]), 0)
    np.testing.assert_allclose(seq["weight"], weight, rtol=1e-4)
    assert not np.any(np.array(seq["weight"])[1:, terminal])


def test_imagined_samples_differ_between_steps_and_repeat():
    tiny = agent()
    randomize([tiny.behavior.actor._out.variables[0]], scale=0.0)
    start = tiny.world_model.rssm.initial(200)
    start = {key: value[:, None] for key, value in start.items()}
    ends = np.zeros((200, 1), bool)
    runs = [
        tiny.world_model.imagine(tiny.behavior.actor, start, ends, 6, seed)
        for seed in (SEED, SEED, SEED + 1)
    ]
    assert same(*[values(run) for run in runs[:2]])
    assert np.any(runs[0]["action"] != runs[2]["action"])
    choices = np.argmax(runs[0]["action"][1:], -1)
    assert len({tuple(row) for row in choices}) == 6
    frequencies = np.bincount(choices.ravel(), minlength=4) / choices.size
    np.testing.assert_allclose(frequencies, 0.25, atol=0.06)


@pytest.mark.parametrize("seed", [None, SEED], ids=["mode", "sample"])
def test_open_loop_reconstructs_then_predicts(seed):
    world_model = model(obs=MIXED)
    data = batch(MIXED, leading=(2, 5))
    means = world_model.open_loop(data, 2, seed)
    assert {k: v.shape for k, v in means.items()} == {
        "image": (2, 5, 64, 64, 1),
        "vector": (2, 5, 5),
    }
    changed = {**data, "vector": data["vector"].copy(), "image": data["image"].copy()}
    changed["vector"][:, 2:] += 1
    changed["image"][:, 2:] = 0  # What comes after the context is not seen,
    after = world_model.open_loop(changed, 2, seed)
    np.testing.assert_array_equal(means["vector"], after["vector"])
    changed["action"] = np.roll(data["action"], 1, -1)  # but actions are.
    assert np.any(
        world_model.open_loop(changed, 2, seed)["vector"][:, 2:] != means["vector"][:, 2:]
    )
    if seed is None:
        _, outputs, _ = world_model.loss(data)
        reconstruction = world_model.decoder(outputs.feat)["vector"]
        np.testing.assert_allclose(means["vector"][:, :2], reconstruction[:, :2], atol=1e-4)


@pytest.mark.parametrize("precision", [16, "bfloat16"])
def test_gradients_in_half_precision_point_where_exact_ones_do(precision):
    data = {k: tf.constant(v) for k, v in batch(MIXED, leading=(4, 8)).items()}

    def found(precision):
        world_model = agent({"precision": precision}, MIXED).world_model
        with tf.GradientTape() as tape:
            loss, _, _ = world_model.loss(data, None, SEED)
        grads = tape.gradient(loss, [v.value for v in world_model.variables])
        return {v.path: np.ravel(g) for v, g in zip(world_model.variables, grads, strict=True)}

    exact, half = found(32), found(precision)
    norms = {key: np.linalg.norm(grad) for key, grad in exact.items()}
    for key, grad in exact.items():
        cosine = grad @ half[key] / (norms[key] * np.linalg.norm(half[key]))
        assert cosine > (0.99 if key.endswith("kernel") else 0.9), key
        assert np.linalg.norm(half[key]) == pytest.approx(norms[key], rel=0.15), key
