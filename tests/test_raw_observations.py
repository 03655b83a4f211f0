"""One observation or many, as the environment gives them or as the networks see them."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from dreamerv2.common.envs.spaces import ObsSpec
from dreamerv2.common.errors import UserError
from dreamerv2.raw_observations import RawObservations, guess_space

IMAGE = ObsSpec((6, 6, 1), np.dtype("uint8"))
VECTOR = ObsSpec((3,), np.dtype("float32"))


def test_a_guessed_space_takes_what_networks_see() -> None:
    both = guess_space({"image": IMAGE, "vector": VECTOR})
    assert isinstance(both, spaces.Dict) and both["image"].shape == (6, 6, 1)
    assert guess_space({"image": IMAGE}).dtype == np.uint8
    assert guess_space({"vector": VECTOR}).shape == (3,)
    assert isinstance(guess_space({"speed": VECTOR}), spaces.Dict)


def test_shapes_tell_one_from_many() -> None:
    grey = RawObservations(spaces.Box(0, 255, (8, 9), np.uint8), (4, 4), ["image"])
    image = np.random.default_rng(0).integers(0, 255, (5, 8, 9), dtype=np.uint8)
    many, lead = grey(image, (0, 1))
    assert lead == (5,) and many["image"].shape == (5, 4, 4, 1)
    one, lead = grey(image[2], (0, 1))
    assert lead == () and one["image"].shape == (1, 4, 4, 1)
    np.testing.assert_array_equal(one["image"][0], many["image"][2])
    sequences, lead = grey(image[None], (1, 2))
    assert lead == (1, 5) and sequences["image"].shape == (5, 4, 4, 1)
    with pytest.raises(UserError, match=r"must be \(8, 9\) or \(N, 8, 9\)"):
        grey(image[None], (0, 1))
    with pytest.raises(UserError, match=r"has the shape \(0, 8, 9\)"):
        grey(image[:0], (0, 1))


def test_a_single_array_may_be_called_by_its_name() -> None:
    plain = RawObservations(spaces.Box(-1, 1, (3,)), (4, 4), ["vector"])
    value = np.ones(3, np.float32)
    np.testing.assert_array_equal(plain({"vector": value}, (0, 1))[0]["vector"], [value])
    np.testing.assert_array_equal(plain([1, 1, 1], (0, 1))[0]["vector"], [value])
    with pytest.raises(UserError, match=r"lacks 'vector' \(there is speed\)"):
        plain({"speed": value}, (0, 1))


def test_what_networks_do_not_see_may_be_missing() -> None:
    space = spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(-1, 1, (3,))})
    only = RawObservations(space, (4, 4), ["a"])
    result, lead = only({"a": np.array([0, 2])}, (0, 1))
    assert lead == (2,) and result["a"].tolist() == [[1, 0, 0], [0, 0, 1]]
