"""Any space of Gymnasium and any `spaces.json`: specs that hold, or one sentence."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import gymnasium.spaces as gs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamerv2 import spaces_file
from dreamerv2.common.envs import space_json
from dreamerv2.common.envs.observations import obs_leaves
from dreamerv2.common.envs.spaces import LONGEST, ActSpec, EnvError, ObsSpec, act_spec
from dreamerv2.common.errors import UserError

QUICK = settings(max_examples=100, derandomize=True, deadline=None, database=None,
                 suppress_health_check=list(HealthCheck))  # fmt: skip

shapes = st.lists(st.integers(0, 9), max_size=4).map(tuple)
boxes = st.builds(
    lambda shape, dtype: (
        gs.Box(0, 1, shape, dtype)
        if np.dtype(dtype).kind == "f"
        else gs.Box(0, np.iinfo(dtype).max, shape, dtype)
    ),
    shapes,
    st.sampled_from([np.float32, np.float64, np.float16, np.uint8, np.int8, np.int32]),
)
leaves = (
    boxes
    | st.builds(gs.Discrete, st.integers(1, 9), start=st.integers(-5, 5))
    | st.sampled_from([gs.Discrete(10**18), gs.Discrete(2**62), gs.MultiDiscrete([10**15, 3])])
    | st.lists(st.integers(1, 5), min_size=1, max_size=3).map(gs.MultiDiscrete)
    | st.builds(gs.MultiBinary, st.integers(1, 9) | shapes.filter(lambda s: s and all(s)))
    | st.sampled_from([gs.Text(3), gs.Graph(gs.Discrete(2), None), gs.Sequence(gs.Discrete(2)),
                       gs.Tuple([gs.Discrete(2)])])
)  # fmt: skip
spaces = st.recursive(
    leaves,
    lambda inner: st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "a_b", "reward", "log_x", "image", "Ü n", ""])
            | st.text(max_size=3),
            inner,
        ),
        max_size=3,
    ).map(lambda pairs: gs.Dict(dict(pairs))),
    max_leaves=4,
)  # fmt: skip


@QUICK
@given(spaces)
def test_observation_spaces(space: gs.Space) -> None:
    try:
        found = obs_leaves(space, (8, 6), "task")
    except UserError as error:
        assert "'task'" in str(error) and "\n" not in str(error) and len(str(error)) < 500
        return
    space.seed(0)
    value = space.sample()
    for leaf in found:
        result = leaf(value)
        assert (result.shape, result.dtype) == (leaf.spec.shape, leaf.spec.dtype)
        assert np.isfinite(result).all()
        assert leaf.spec.is_image == (len(leaf.spec.shape) == 3)
    assert len({leaf.key for leaf in found}) == len(found)


@QUICK
@given(spaces)
def test_action_spaces(space: gs.Space) -> None:
    try:
        spec = act_spec(space, "task")
    except UserError as error:
        assert "'task'" in str(error) and "\n" not in str(error)
        return
    assert 0 < spec.dim <= LONGEST
    actions = spec.to_env(spec.sample(np.random.default_rng(0), 2))
    assert all(space.contains(action if action.shape else action[()]) for action in actions)
    once = spec.from_env(actions)
    np.testing.assert_allclose(spec.to_env(once), actions, rtol=1e-2, atol=1e-3)


nothing = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(
    [10**18, 10**400, -1, 0, 1.5, float("nan"), "uint8", "object", "O", [10**9] * 3, [10**18], [-1],
     {"a": 1}]
)  # fmt: skip
anything = st.recursive(
    nothing,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def places(tree: Any) -> list[tuple[Any, ...]]:
    if isinstance(tree, dict):
        return [()] + [(key, *rest) for key, sub in tree.items() for rest in places(sub)]
    if isinstance(tree, list):
        return [()] + [(at, *rest) for at, sub in enumerate(tree) for rest in places(sub)]
    return [()]


OBSERVED = {"image": ObsSpec((64, 64, 1), np.dtype("uint8")),
            "vector": ObsSpec((5,), np.dtype("float32"))}  # fmt: skip
ENV_SPACE = gs.Dict({"x": gs.Box(0, 255, (64, 64, 1), np.uint8), "y": gs.Discrete(3),
                     "z": gs.MultiDiscrete([2, 3]), "b": gs.MultiBinary(3)})  # fmt: skip


@settings(QUICK, max_examples=200)
@given(st.data())
def test_stored_spaces(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("spaces")
    spaces_file.save_spaces(folder, OBSERVED, ActSpec("discrete", (4,)), ENV_SPACE)
    path = folder / spaces_file.NAME
    stored = json.loads(path.read_text())
    where = data.draw(st.sampled_from(places(stored)))
    value = data.draw(anything)
    node = stored
    for part in where[:-1]:
        node = node[part]
    if not where:
        stored = value
    elif data.draw(st.booleans()) and isinstance(node, dict):
        del node[where[-1]]
    else:
        node[where[-1]] = value
    path.write_text(json.dumps(stored))
    for load in (spaces_file.load_spaces, spaces_file.load_env_space):
        try:
            loaded = load(folder)
        except UserError as error:
            assert "spaces.json is damaged" in str(error) and len(str(error)) < 600
        else:
            if load is spaces_file.load_spaces and loaded is not None:
                assert loaded[1].dim <= LONGEST
                assert all(0 < np.prod(spec.shape) < 1e9 for spec in loaded[0].values())


@pytest.mark.parametrize(
    "text", ["", "[" * 100_000, "{", "\x00", "9" * 5000, '"' + "x" * (2 << 20) + '"', "NaN", "null"]
)
def test_files_that_are_no_description(text: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / spaces_file.NAME).write_text(text)
    for load in (spaces_file.load_spaces, spaces_file.load_env_space):
        with pytest.raises(UserError, match=r"spaces\.json is damaged") as error:
            load(tmp_path)
        assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    "stored",
    [
        {"type": "Box", "shape": [10**6, 10**6], "dtype": "uint8"},
        {"type": "Box", "shape": [4], "dtype": "O"},
        {"type": "MultiBinary", "shape": [10**7, 10**7]},
        {"type": "MultiBinary", "shape": [-1]},
        {"type": "Pickle", "data": "gASVIAAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAV0cnVllIWUUpQu"},
    ],
)
def test_spaces_that_take_terabytes_are_refused(stored: dict[str, Any]) -> None:
    with pytest.raises((ValueError, AssertionError, UserError)):
        space_json.from_json(stored)


def test_a_value_outside_of_a_space_is_one_sentence() -> None:
    (leaf,) = obs_leaves(gs.MultiDiscrete([2, 3]), (8, 8), "task")
    with pytest.raises(
        EnvError, match=r"an observation is \[0, 3\], which its space does not allow"
    ):
        leaf([0, 3])
