import numpy as np
import pytest
from gymnasium import spaces as gs
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamerv2.common.envs.observations import obs_leaves
from dreamerv2.common.envs.spaces import ActSpec, EnvError, act_spec, one_hot
from dreamerv2.common.errors import UserError

SIZE = (16, 24)


def specs(space):
    return {leaf.key: leaf.spec for leaf in obs_leaves(space, SIZE, "task")}


def convert(space, value):
    return {leaf.key: leaf(value) for leaf in obs_leaves(space, SIZE, "task")}


def test_discrete_action():
    spec = act_spec(gs.Discrete(3, start=5), "task")
    assert (spec.kind, spec.sizes, spec.dim) == ("discrete", (3,), 3)
    values = spec.to_env(np.eye(3, dtype=np.float32))
    assert values.dtype == np.int64
    assert values.tolist() == [5, 6, 7]


def test_multi_discrete_action():
    spec = act_spec(gs.MultiDiscrete([2, 3], start=[0, 10]), "task")
    assert (spec.kind, spec.sizes, spec.dim) == ("multi_discrete", (2, 3), 5)
    assert spec.to_env(np.array([[0, 1, 0, 0, 1]], np.float32)).tolist() == [[1, 12]]


def test_multi_binary_action():
    spec = act_spec(gs.MultiBinary((2, 2)), "task")
    assert spec.sizes == (2, 2, 2, 2)
    values = spec.to_env(np.array([[1, 0, 0, 1, 0, 1, 1, 0]], np.float32))
    assert values.tolist() == [[[0, 1], [1, 0]]]
    assert gs.MultiBinary((2, 2)).contains(values[0])


def test_continuous_action_is_rescaled_and_clipped():
    spec = act_spec(gs.Box(np.float32([-2, 0, -np.inf]), np.float32([2, 10, 3])), "task")
    assert (spec.kind, spec.sizes) == ("continuous", (3,))
    actions = np.array([[-1, 0, -7], [0.5, 9, 7]], np.float32)
    assert spec.to_env(actions).tolist() == [[-2, 5, -7], [1, 10, 3]]


def test_largest_float_means_unbounded():
    top = np.finfo(np.float32).max
    spec = act_spec(gs.Box(-top, top, (1,), np.float32), "task")
    assert spec.to_env(np.array([[4.0]], np.float32)).tolist() == [[4.0]]


def test_wrong_action_shape():
    with pytest.raises(ValueError, match=r"\(N, 3\).*\(2, 2\)"):
        ActSpec("discrete", (3,)).to_env(np.zeros((2, 2)))


@st.composite
def action_spaces(draw):
    kind = draw(st.sampled_from(["discrete", "multi", "binary", "box"]))
    ints = st.integers(1, 5)
    start = st.integers(-3, 3)
    if kind == "discrete":
        return gs.Discrete(draw(ints), start=draw(start))
    if kind == "multi":
        sizes = draw(st.lists(ints, min_size=1, max_size=4))
        return gs.MultiDiscrete(sizes, start=[draw(start) for _ in sizes])
    shape = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    if kind == "binary":
        return gs.MultiBinary(shape)
    low = np.full(shape, draw(st.floats(-50, 49)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return gs.Box(low.astype(dtype), (low + draw(st.floats(0.01, 9))).astype(dtype), dtype=dtype)


@settings(max_examples=150, deadline=None)
@given(action_spaces(), st.integers(0, 2**31))
def test_actions_fit_and_round_trip(space, seed):
    spec = act_spec(space, "task")
    actions = spec.sample(np.random.default_rng(seed), 4)
    assert actions.shape == (4, spec.dim) == (4, sum(spec.sizes))
    assert actions.dtype == np.float32
    values = spec.to_env(actions)
    assert all(space.contains(value) for value in values)
    tolerance = 1e-3 if spec.kind == "continuous" else 0
    np.testing.assert_allclose(spec.from_env(values), actions, atol=tolerance)


@pytest.mark.parametrize(
    "space", [gs.Text(3), gs.Tuple([gs.Discrete(2)]), gs.Box(0, 3, (1,), np.int32), gs.Dict({})]
)
def test_refused_action_spaces(space):
    with pytest.raises(UserError, match=r"'task' has the action space .* not supported: wrap"):
        act_spec(space, "task")


def test_one_hot():
    assert one_hot(np.array([[1, 0], [0, 2]]), (2, 3)).tolist() == [
        [0, 1, 1, 0, 0],
        [1, 0, 0, 0, 1],
    ]


@pytest.mark.parametrize(
    "space, key, shape, dtype",
    [
        (gs.Box(0, 255, (8, 8, 3), np.uint8), "image", (16, 24, 3), "uint8"),
        (gs.Box(0, 255, (8, 8), np.uint8), "image", (16, 24, 1), "uint8"),
        (gs.Box(0, 255, (84, 84, 12), np.uint8), "image", (16, 24, 12), "uint8"),
        (gs.Box(0, 255, (128,), np.uint8), "vector", (128,), "float32"),
        (gs.Box(-1, 1, (5,)), "vector", (5,), "float32"),
        (gs.Box(-1, 1, ()), "vector", (1,), "float32"),
        (gs.Box(-1, 1, (2, 3, 2), np.float64), "vector", (12,), "float32"),
        (gs.Box(0, 9, (2, 2), np.int64), "vector", (4,), "float32"),
        (gs.Discrete(7), "vector", (7,), "float32"),
        (gs.MultiDiscrete([2, 3]), "vector", (5,), "float32"),
        (gs.MultiBinary(4), "vector", (4,), "float32"),
    ],
)
def test_single_observation_spaces(space, key, shape, dtype):
    assert {k: (v.shape, v.dtype) for k, v in specs(space).items()} == {key: (shape, dtype)}
    value = convert(space, space.sample())[key]
    assert (value.shape, value.dtype) == (shape, np.dtype(dtype))


def test_nested_dict():
    space = gs.Dict(
        {
            "arm": gs.Dict({"joint/pos": gs.Box(-9, 9, (2,)), "on": gs.Discrete(2, start=3)}),
            "camera": gs.Box(0, 255, SIZE, np.uint8),
            "log_speed": gs.Box(0, 9, ()),
        }
    )
    image = np.arange(16 * 24, dtype=np.uint8).reshape(SIZE)
    value = {
        "arm": {"joint/pos": np.array([1.0, 2.0], np.float32), "on": 4},
        "camera": image,
        "log_speed": np.float32(3),
    }
    out = convert(space, value)
    assert out["arm_joint_pos"].tolist() == [1, 2]
    assert out["arm_on"].tolist() == [0, 1]
    assert out["log_speed"].shape == () and out["log_speed"] == 3
    np.testing.assert_array_equal(out["camera"], image[..., None])
    assert not np.shares_memory(out["camera"], image)


def test_resizing_averages_when_shrinking_and_repeats_when_growing():
    small = gs.Box(0, 255, (2, 2, 1), np.uint8)
    image = np.array([[0, 100], [50, 200]], np.uint8)[..., None]
    out = convert(small, image)["image"]
    np.testing.assert_array_equal(out, image.repeat(8, 0).repeat(12, 1))
    big = gs.Box(0, 255, (32, 48), np.uint8)
    checks = np.indices((32, 48)).sum(0) % 2 * 100
    assert np.all(convert(big, checks.astype(np.uint8))["image"] == 50)


def test_bytes_that_are_no_image_are_scaled():
    out = convert(gs.Box(0, 255, (2,), np.uint8), np.array([0, 255], np.uint8))
    np.testing.assert_allclose(out["vector"], [0, 1])


@pytest.mark.parametrize(
    "space, message",
    [
        (gs.Tuple([gs.Discrete(2)]), "'task' has the observation space .* not supported"),
        (gs.Dict({"a": gs.Text(3)}), "'task' has the observation space .* not supported"),
        (gs.Box(0, 255, (3, 64, 64), np.uint8), r"channel-first images .*\(3, 64, 64\): wrap"),
        (gs.Dict({"reward": gs.Discrete(2)}), "key 'reward', which is reserved"),
        (gs.Dict({"is": gs.Dict({"first": gs.Discrete(2)})}), "'is_first', which is reserved"),
        (gs.Dict({"a_b": gs.Discrete(2), "a/b": gs.Discrete(2)}), "two observations called 'a_b'"),
        (gs.Dict({}), "no observations"),
    ],
)
def test_refused_observation_spaces(space, message):
    with pytest.raises(UserError, match=message):
        specs(space)


def test_broken_promise_of_shape():
    with pytest.raises(EnvError, match=r"'vector' has the shape \(3,\).*\(2,\)"):
        convert(gs.Box(0, 1, (2,)), np.zeros(3, np.float32))
