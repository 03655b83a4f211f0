import numpy as np
import pytest
import tensorflow as tf
from tiny import rssm as make
from tiny import softmax

from dreamerv2.rssm import RSSM

RNG = np.random.default_rng(0)
SEED = tf.constant([7, 1])
BATCH, TIME = 3, 5
EMBED = RNG.normal(size=(BATCH, TIME, 4)).astype(np.float32)
ACTION = RNG.normal(size=(BATCH, TIME, 2)).astype(np.float32)
NEVER = np.zeros((BATCH, TIME), bool)
KINDS = pytest.mark.parametrize("discrete", [4, False], ids=["discrete", "gaussian"])
CALLS = [pytest.param(lambda f: f, id="eager"), pytest.param(tf.function, id="compiled")]


def some_state(rssm, seed=0):
    rng = np.random.default_rng(seed)
    state = rssm.initial(BATCH)
    return {k: tf.cast(rng.normal(size=v.shape), v.dtype) for k, v in state.items()}


def assert_states(actual, expected):
    assert actual.keys() == expected.keys()
    for key in actual:
        np.testing.assert_allclose(actual[key], expected[key], atol=1e-5, err_msg=key)


def steps_of(states, axis=1):
    return {key: tf.stack([state[key] for state in states], axis) for key in states[0]}


@KINDS
def test_initial_state_and_sizes(discrete):
    rssm = make(discrete)
    state = rssm.initial(7)
    shape = (7, 3, 4) if discrete else (7, 3)
    stats = {"logit"} if discrete else {"mean", "std"}
    assert state.keys() == {"deter", "stoch"} | stats
    assert state["deter"].shape == (7, 5)
    assert all(state[key].shape == shape for key in {"stoch"} | stats)
    assert all(not np.any(value) for value in state.values())
    assert rssm.feat_size == (12 if discrete else 3) + 5
    feat = rssm.get_feat(some_state(rssm))
    assert feat.shape == (BATCH, rssm.feat_size)
    np.testing.assert_array_equal(feat[:, -5:], some_state(rssm)["deter"])


def np_layer(w, name, x, normed=True):
    x = x @ w[f"{name}/kernel"] + w[f"{name}/bias"]
    if normed:
        stem, _, member = name.rpartition("_")
        norm = f"{stem}_norm_{member}" if member.isdigit() else f"{name}_norm"
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3)
        x = x * w[f"{norm}/gamma"] + w[f"{norm}/beta"]
        x = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
    return x


def test_one_observation_against_numpy():
    rssm = make(False)
    w = {v.path.removeprefix("rssm/"): np.array(v) for v in rssm.variables}
    prev = {k: np.array(v) for k, v in some_state(rssm).items()}
    x = np_layer(w, "img_in", np.concatenate([prev["stoch"], ACTION[:, 0]], -1))
    deter = np.array(rssm._cell(x.astype(np.float32), prev["deter"]))
    post = np_layer(w, "obs_out", np.concatenate([deter, EMBED[:, 0]], -1))
    mean, std = np.split(np_layer(w, "obs_dist", post, False), 2, -1)
    state = rssm.obs_step(prev, ACTION[:, 0], EMBED[:, 0], NEVER[:, 0])
    std = 2 / (1 + np.exp(-std / 2)) + 0.1
    assert_states(state, {"deter": deter, "stoch": mean, "mean": mean, "std": std})
    mean, std = np.split(np_layer(w, "img_dist_0", np_layer(w, "img_out_0", deter), False), 2, -1)
    std = 2 / (1 + np.exp(-std / 2)) + 0.1
    state = rssm.img_step(prev, ACTION[:, 0])
    assert_states(state, {"deter": deter, "stoch": mean, "mean": mean, "std": std})


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("ensemble", [1, 3])
@KINDS
def test_observe_is_repeated_observation(discrete, ensemble, call):
    rssm = make(discrete, ensemble)
    first = NEVER.copy()
    first[1, 2] = first[0, 4] = first[2, 0] = True
    start = some_state(rssm)
    posts, priors, state = [], [], start
    for t in range(TIME):
        # What is_first does, by hand.
        keep = ~first[:, t]
        masked = {k: v * np.reshape(keep, [-1] + [1] * (v.ndim - 1)) for k, v in state.items()}
        action = ACTION[:, t] * keep[:, None]
        priors.append(rssm.img_step(masked, action))
        state = rssm.obs_step(state, ACTION[:, t], EMBED[:, t], first[:, t])
        posts.append(state)
    post, prior = call(rssm.observe)(
        tf.constant(EMBED), tf.constant(ACTION), tf.constant(first), start
    )
    assert_states(post, steps_of(posts))
    assert_states(prior, steps_of(priors))


@KINDS
def test_without_a_state_the_sequence_starts_from_zeros(discrete):
    rssm = make(discrete)
    ours = rssm.observe(EMBED, ACTION, NEVER)
    zeros = rssm.observe(EMBED, ACTION, NEVER, rssm.initial(BATCH))
    for actual, expected in zip(ours, zeros, strict=True):
        assert_states(actual, expected)


@KINDS
def test_nothing_before_a_first_step_matters(discrete):
    rssm = make(discrete)
    first = NEVER.copy()
    first[:, 2] = True
    before, _ = rssm.observe(EMBED, ACTION, first, some_state(rssm, 0), SEED)
    embed, action = EMBED.copy(), ACTION.copy()
    embed[:, :2] += 3
    action[:, :3] -= 2  # The action that led to the first step counts as before it.
    after, _ = rssm.observe(embed, action, first, some_state(rssm, 1), SEED)
    for key in before:
        np.testing.assert_array_equal(before[key][:, 2:], after[key][:, 2:])
        assert np.any(before[key][:, :2] != after[key][:, :2])


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("ensemble", [1, 3])
@KINDS
def test_imagine_is_repeated_imagination(discrete, ensemble, call):
    rssm = make(discrete, ensemble)
    start = some_state(rssm)
    states, state = [], start
    for t in range(TIME):
        state = rssm.img_step(state, ACTION[:, t])
        states.append(state)
    assert_states(call(rssm.imagine)(tf.constant(ACTION), start), steps_of(states))


@KINDS
def test_samples_repeat_with_the_seed_and_differ_between_steps(discrete):
    rssm = make(discrete)
    first, again = (rssm.observe(EMBED, ACTION, NEVER, None, SEED)[0] for _ in range(2))
    assert_states(first, again)
    other, _ = rssm.observe(EMBED, ACTION, NEVER, None, SEED + 1)
    assert np.any(first["stoch"] != other["stoch"])
    wide = RSSM(
        2, 4, ensemble=1, hidden=6, deter=5, stoch=50, discrete=discrete, act="elu", norm="none",
        gru_norm="layer", std_act="sigmoid2", min_std=0.1,
    )  # fmt: skip
    wide.build()  # Equal inputs at every step: only the seeds tell the samples apart.
    for variable in wide.variables:
        variable.assign(tf.zeros_like(variable))
    post, prior = wide.observe(0 * EMBED, 0 * ACTION, NEVER, None, SEED)
    imagined = wide.imagine(0 * ACTION, wide.initial(BATCH), SEED)
    draws = [s["stoch"][0, t] for s in (post, prior, imagined) for t in range(TIME)]
    assert len(np.unique(np.reshape(draws, (len(draws), -1)), axis=0)) == len(draws)


def test_discrete_samples_are_one_hot_with_the_right_frequencies():
    rssm = make(4)
    logit = tf.constant(np.tile(RNG.normal(size=(1, 3, 4)), (8000, 1, 1)), tf.float32)
    stoch = np.asarray(rssm._draw({"logit": logit}, SEED))
    np.testing.assert_allclose(np.sort(stoch, -1)[..., -1], 1.0, atol=1e-6)
    np.testing.assert_allclose(stoch.mean(0), softmax(np.array(logit[0])), atol=0.025)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("softplus", lambda x: np.logaddexp(0, x)), ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("sigmoid2", lambda x: 2 / (1 + np.exp(-x / 2))), ("exp", np.exp),
    ],
)  # fmt: skip
def test_std_functions(name, function):
    rssm = make(False, std_act=name, min_std=0.3)
    x = RNG.normal(size=(2, 6)).astype(np.float32)
    stats = rssm.latents.stats(x)
    np.testing.assert_allclose(stats["mean"], x[:, :3])
    np.testing.assert_allclose(stats["std"], function(x[:, 3:]) + 0.3, rtol=1e-5)


def members(rssm, deter):
    layers = zip(rssm._img_out, rssm._img_out_norm, rssm._img_dist, strict=True)
    return [rssm.latents.stats(d(rssm._act(n(o(deter))))) for o, n, d in layers]


@KINDS
def test_ensemble_takes_every_step_from_one_member(discrete):
    rssm = make(discrete, ensemble=3)
    time = 60
    embed, action = (np.tile(x[:, :1], (1, time, 1)) for x in (EMBED, ACTION))
    first = np.zeros((BATCH, time), bool)
    post, prior = rssm.observe(embed, action, first, None, SEED)
    candidates = members(rssm, post["deter"])
    chosen = []
    for t in range(time):
        fits = [
            k
            for k, stats in enumerate(candidates)
            if all(np.allclose(stats[key][:, t], prior[key][:, t]) for key in stats)
        ]
        assert len(fits) == 1
        chosen += fits
    counts = np.bincount(chosen, minlength=3)
    assert counts.min() >= 8
    single = [rssm.img_step(some_state(rssm), ACTION[:, 0], tf.constant([0, i])) for i in range(30)]
    candidates = members(rssm, single[0]["deter"])
    key = "logit" if discrete else "mean"
    used = {
        next(k for k, c in enumerate(candidates) if np.allclose(c[key], state[key]))
        for state in single
    }
    assert used == {0, 1, 2}


@pytest.mark.parametrize("precision", [16, "bfloat16"])
@KINDS
def test_statistics_are_float32_in_low_precision(discrete, precision):
    rssm = make(discrete, precision=precision)
    low = rssm.compute_dtype
    post, prior = rssm.observe(tf.cast(EMBED, low), ACTION, NEVER, None, SEED)
    for state in (post, prior, rssm.imagine(ACTION, rssm.initial(BATCH), SEED)):
        assert {k: v.dtype for k, v in state.items()} == {
            k: (low if k in ("deter", "stoch") else tf.float32) for k in state
        }
    exact, _ = make(discrete).observe(EMBED, ACTION, NEVER)
    post, _ = rssm.observe(tf.cast(EMBED, low), ACTION, NEVER)
    np.testing.assert_allclose(
        tf.cast(post["deter"][:, 0], tf.float32), exact["deter"][:, 0], atol=0.05
    )
