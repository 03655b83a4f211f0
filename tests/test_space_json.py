"""A stored space gives the same network inputs as the space itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
from gymnasium import spaces

from dreamerv2.common.envs import space_json
from dreamerv2.common.envs.observations import obs_leaves

SPACES = {
    "image": spaces.Box(0, 255, (10, 12, 3), np.uint8),
    "grey": spaces.Box(0, 255, (10, 12), np.uint8),
    "vector": spaces.Box(-1, np.inf, (2, 3), np.float64),
    "bytes": spaces.Box(0, 255, (7,), np.uint8),
    "integers": spaces.Box(-4, 4, (2,), np.int16),
    "flags": spaces.Box(0, 1, (2,), np.bool_),
    "scalar": spaces.Box(0, 1, (), np.float32),
    "discrete": spaces.Discrete(5, start=-2),
    "multi": spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[1, 0], [0, 2]]),
    "binary": spaces.MultiBinary([2, 2]),
    "dict": spaces.Dict(
        [
            ("z", spaces.Discrete(3)),
            ("a", spaces.Dict({"in side": spaces.Box(0, 255, (8, 8, 1), np.uint8)})),
        ]
    ),
}


@pytest.mark.parametrize("name", SPACES)
def test_what_json_keeps_translates_observations_alike(name: str) -> None:
    space = SPACES[name]
    stored = json.loads(json.dumps(space_json.to_json(space)))
    again = space_json.from_json(stored)
    space.seed(3)
    sample = space.sample()
    assert again.contains(sample)
    left, right = (obs_leaves(s, (6, 6), "x") for s in (space, again))
    assert [leaf.key for leaf in left] == [leaf.key for leaf in right]
    for one, other in zip(left, right, strict=True):
        assert one.spec == other.spec
        np.testing.assert_array_equal(one(sample), other(sample))


def test_other_spaces_are_not_described() -> None:
    assert space_json.to_json(spaces.Text(5)) is None
    assert space_json.to_json(spaces.Dict({"a": spaces.Text(5)})) is None


def test_damaged_descriptions_are_errors() -> None:
    with pytest.raises(ValueError, match="no space"):
        space_json.from_json({"type": "Graph"})
    with pytest.raises(KeyError):
        space_json.from_json({"type": "Box"})
