"""What a run remembers of its environment comes back equal, or the file is called damaged."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from gymnasium import spaces

from dreamerv2 import spaces_file
from dreamerv2.common import envs
from dreamerv2.common.envs.dummy import Count
from dreamerv2.common.errors import UserError

UNBOUNDED = envs.ActSpec(
    "continuous", (2,), shape=(2,), low=(-np.inf, 0.0), high=(3.0, np.inf), dtype="float32"
)


@pytest.mark.parametrize("action", [None, UNBOUNDED])
def test_spaces_come_back_equal(action: envs.ActSpec | None, tmp_path: pathlib.Path) -> None:
    with envs.make_from(Count) as env:
        act_space = action or env.act_space
        spaces_file.save_spaces(tmp_path, env.obs_space, act_space, env.env_space)
        assert spaces_file.load_spaces(tmp_path) == (env.obs_space, act_space)
        again = spaces_file.load_env_space(tmp_path)
    assert isinstance(again, spaces.Dict) and again["image"] == Count().observation_space["image"]
    assert [path.name for path in tmp_path.iterdir()] == ["spaces.json"]


def test_runs_of_earlier_versions_and_spaces_unknown(tmp_path: pathlib.Path) -> None:
    assert spaces_file.load_spaces(tmp_path) is None
    assert spaces_file.load_env_space(tmp_path) is None
    with envs.make_from(Count) as env:
        spaces_file.save_spaces(tmp_path, env.obs_space, env.act_space)
    assert spaces_file.load_env_space(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", '{"observations": 3}', '{"environment": {"type": 1}}'])
def test_damaged_files_say_what_to_do(text: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "spaces.json").write_text(text)
    with pytest.raises(UserError, match=r"spaces\.json is damaged .* delete it"):
        spaces_file.load_spaces(tmp_path)
    if "environment" in text:
        with pytest.raises(UserError, match="is damaged"):
            spaces_file.load_env_space(tmp_path)
