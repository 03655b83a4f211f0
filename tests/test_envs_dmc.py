"""DeepMind Control: names, spaces, seeds, ends, images, and what it says where it cannot run.

Whatever renders runs in a process of its own: TensorFlow may be in this one.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dreamerv2.common import envs
from dreamerv2.common.envs import dmc, dmc_tasks, extras, rendering, wrappers
from dreamerv2.common.errors import UserError

pytest.importorskip("dm_control", reason="the extra dmc is not installed")

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def renders() -> None:
    if not any(rendering.works(name) for name in rendering.BACKENDS):
        pytest.skip(f"neither EGL nor OSMesa works: {rendering.INSTALL}")


def make(task: str, **options):
    return envs.make(f"dmc_{task}", dmc_image=False, **options)


def zeros(env) -> np.ndarray:
    return np.zeros((env.num, env.act_space.dim), np.float32)


def python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a new process without MUJOCO_GL but with the given variables."""
    env = {key: v for key, v in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**env, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["cartpole_swingup", "ball_in_cup_catch", "manip_reach_site"])
def test_gymnasium_checker(name: str) -> None:
    build = dmc.constructor(name, image=False)
    env = build()
    check_env(env, skip_render_check=True)
    env.close()
    env.close()
    check_env(wrappers.wrap(build(), name=f"dmc_{name}"), skip_render_check=True)


def test_values_are_those_of_the_library() -> None:
    with make("walker_walk", action_repeat=2, seed=5) as env:
        from dm_control import suite

        assert {k: s.shape for k, s in env.obs_space.items()} == {
            "orientations": (14,), "height": (1,), "velocity": (9,),
        }  # fmt: skip
        assert env.act_space.kind == "continuous" and env.act_space.sizes == (6,)
        control = env._vector.envs[0].unwrapped._env
        batch = env.reset()
        plain = suite.load("walker", "walk", task_kwargs={"random": 0})
        plain.reset()
        with plain.physics.reset_context():
            plain.physics.set_state(control.physics.get_state())
        plain.physics.data.qacc_warmstart[:] = control.physics.data.qacc_warmstart
        rng = np.random.default_rng(0)
        for _ in range(20):
            action = env.act_space.sample(rng, 1)
            batch = env.step(action)
            reward = plain.step(action[0]).reward
            step = plain.step(action[0])
            assert batch["reward"][0] == pytest.approx(reward + step.reward, abs=1e-5)
            for key, value in step.observation.items():
                np.testing.assert_allclose(batch[key][0], np.atleast_1d(value), atol=1e-4)


def test_time_limit_is_not_terminal_and_repeat_divides_it() -> None:
    with make("pendulum_swingup", action_repeat=4) as env:
        env.reset()
        batches = [env.step(zeros(env)) for _ in range(251)]
    assert [bool(b["is_last"][0]) for b in batches] == [False] * 249 + [True, False]
    assert not any(b["is_terminal"][0] for b in batches)
    assert batches[250]["is_first"][0] and batches[250]["reward"][0] == 0
    with make("pendulum_swingup", time_limit=3) as env:
        env.reset()
        assert [bool(env.step(zeros(env))["is_last"][0]) for _ in range(3)] == [False, False, True]


def test_discount_zero_is_terminal() -> None:
    """The linear-quadratic regulator ends when it has come to rest."""
    with make("lqr_lqr_2_1") as env:
        # Its actions have no bounds.
        np.testing.assert_array_equal(env.act_space.to_env(np.float32([[0.5]])), [[0.5]])
        env.reset()
        physics = env._vector.envs[0].unwrapped._env.physics
        with physics.reset_context():
            physics.data.qpos[:] = physics.data.qvel[:] = 0
        batch = env.step(zeros(env))
    assert batch["is_last"][0] and batch["is_terminal"][0]


@pytest.mark.parametrize("name", ["finger_turn_hard", "manip_reach_site"])
def test_seeds(name: str) -> None:
    def episodes(seed: int) -> np.ndarray:
        env = dmc.constructor(name, image=False)()
        obs = [env.reset(seed=seed)[0]]
        for _ in range(3):
            obs.append(env.step(np.full(env.action_space.shape, 0.3))[0])
        obs.append(env.reset()[0])
        env.close()
        return np.stack([np.concatenate([np.ravel(x) for x in o.values()]) for o in obs])

    first = episodes(1)
    np.testing.assert_array_equal(first, episodes(1))
    assert (first != episodes(2)).any() and (first[0] != first[-1]).any()


def test_every_task_of_the_suite_has_a_name() -> None:
    with rendering.switched_off():
        from dm_control import suite

        for domain, level in suite.ALL_TASKS:
            dmc_tasks.find(f"{domain}_{level}", "task", False)
    for name, shape in [
        ("humanoid_CMU_walk", (56,)),
        ("cup_catch", (2,)),
        ("point_mass_easy", (2,)),
    ]:
        assert dmc.constructor(name, image=False)().action_space.shape == shape


def test_manipulation_and_locomotion() -> None:
    state = dmc.constructor("manip_reach_site", image=False)().observation_space
    assert "target_position" in state.spaces
    # Of a variant that is seen through a camera, without the camera.
    proprio = dmc.constructor("manip_reach_site_vision", image=False)().observation_space
    assert set(proprio.spaces) == set(state.spaces) - {"target_position"}
    rodent = dmc.constructor("locom_rodent_two_touch", image=False)()
    assert rodent.action_space.shape == (38,)
    obs, _ = rodent.reset(seed=0)
    assert rodent.observation_space.contains(obs)
    # An empty observation of the library is left out.
    assert "walker/sensors_torque" not in obs and "walker/joints_pos" in obs
    assert not any(space.dtype == np.uint8 for space in rodent.observation_space.spaces.values())


@pytest.mark.parametrize(
    "task, message",
    [
        ("walker_wlak", "the domain walker has the tasks stand, walk, run"),
        ("humanoid_CMU_fly", "the domain humanoid_CMU has the tasks stand, walk, run"),
        ("wlaker_walk", "did you mean dmc_walker_walk"),
        ("xyz_abc", "the domains are acrobot, ball_in_cup, .*, besides manip and locom"),
        ("manip_reach_sight", "did you mean dmc_manip_reach_site"),
        ("manip_xyz", "its tasks are stack_2_bricks, .*reach_site"),
        ("locom_rodent_run", "did you mean dmc_locom_rodent_run_gaps"),
    ],
)
def test_refused_names(task: str, message: str) -> None:
    with pytest.raises(UserError, match=f"the task 'dmc_{task}' is not .*: {message}"):
        make(task)


def test_cameras() -> None:
    build = dmc.constructor
    image = dict(task="dmc_test", size=(8, 8))

    def camera(name: str, number: int) -> int:
        env = build(name, image=False)()._env
        return dmc.Control(env, camera=number, **image)._camera

    assert camera("walker_walk", -1) == 0 and camera("walker_walk", 1) == 1
    assert camera("locom_cmu_humanoid_go_to_target", -1) == 1
    env = build("quadruped_walk", image=False)()._env
    assert dmc.Control(env, **{**image, "task": "dmc_quadruped_walk"})._camera == 2
    with pytest.raises(UserError, match=r"dmc_camera is 2, but .* has the cameras 0 \(side\), 1"):
        camera("walker_walk", 2)
    with pytest.raises(UserError, match="dmc_camera is -2"):
        camera("walker_walk", -2)


def test_state_needs_no_rendering_and_leaves_the_environment_alone() -> None:
    code = (
        "import os, sys\n"
        "from dreamerv2.common import envs\n"
        "before = dict(os.environ)\n"
        "envs.make('dmc_walker_walk', dmc_image=False).close()\n"
        "assert dict(os.environ) == before, os.environ\n"
        "assert not [m for m in sys.modules if m.startswith(('OpenGL', 'glfw'))]\n"
    )
    for variables in ({}, {"MUJOCO_GL": "egl"}):
        result = python("-c", code, **variables)
        assert result.returncode == 0, result.stderr


IMAGES = """
import os, sys
import numpy as np
from dreamerv2.common import envs
if __name__ == "__main__":
    import tensorflow  # It and a graphics library would crash in one process.
    before = dict(os.environ)
    options = dict(size=(48, 64), seed=3, action_repeat=2, dmc_camera=1)
    with envs.make("dmc_walker_walk", **options) as env:
        assert env.obs_space["image"].shape == (48, 64, 3)
        batch = env.reset()
        assert set(batch) >= {"image", "height", "orientations", "velocity"}
        image = batch["image"][0]
        assert image.std() > 10
        assert (env.step(np.ones((1, 6), np.float32))["image"][0] != image).any()
    changed = {key for key in os.environ if os.environ[key] != before.get(key)}
    assert changed <= {"MUJOCO_GL"} and os.environ["MUJOCO_GL"] in ("egl", "osmesa")
    assert not [m for m in sys.modules if m.startswith(("OpenGL", "glfw"))]
    try:
        from dreamerv2.common.envs import dmc
        dmc.constructor("walker_walk")().reset()
    except RuntimeError as error:
        assert "in a process that has imported TensorFlow" in str(error)
    else:
        raise AssertionError("no error")
"""


@pytest.mark.usefixtures("renders")
def test_images_beside_tensorflow(tmp_path: pathlib.Path) -> None:
    # A file, because the worker processes import the main module.
    path = tmp_path / "main.py"
    path.write_text(IMAGES)
    result = python(str(path), TF_CPP_MIN_LOG_LEVEL="3")
    assert result.returncode == 0, result.stderr


@pytest.mark.usefixtures("renders")
def test_images_are_those_of_the_library_and_pass_the_checker() -> None:
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "import numpy as np\n"
        "from gymnasium.utils.env_checker import check_env\n"
        "from dreamerv2.common.envs import dmc, rendering\n"
        "build = dmc.constructor('cartpole_balance', size=(32, 32))\n"
        "check_env(build(), skip_render_check=True)\n"
        "env = build()\n"
        "obs, _ = env.reset(seed=0)\n"
        "from dm_control import suite\n"
        "plain = suite.load('cartpole', 'balance')\n"
        "with plain.physics.reset_context():\n"
        "    plain.physics.set_state(env._env.physics.get_state())\n"
        "image = plain.physics.render(32, 32, camera_id=0)\n"
        "np.testing.assert_array_equal(obs['image'], image)\n"
        "env.close()\n"
    )
    result = python("-c", code)
    assert result.returncode == 0, result.stderr


def test_what_it_says_where_nothing_renders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "works", lambda name: False)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(
        UserError, match=r"run apt-get install libegl1 libgl1 \(on Debian and Ubuntu\)"
    ):
        envs.make("dmc_walker_walk")
    assert "MUJOCO_GL" not in os.environ
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(UserError, match="MUJOCO_GL=glfw does not work on this machine: unset it"):
        envs.make("dmc_walker_walk")
    make("walker_walk").close()


def test_osmesa_is_tried_after_egl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    tried: list[str] = []

    def works(name: str) -> bool:
        tried.append(name)
        return name == "osmesa"

    monkeypatch.setattr(rendering, "works", works)
    rendering.choose("dmc_walker_walk")
    assert tried == ["egl", "osmesa"] and os.environ["MUJOCO_GL"] == "osmesa"


def test_a_name_that_means_nothing_does_not_work() -> None:
    assert not rendering.works("nothing")


def test_missing_package_and_wrong_version(monkeypatch: pytest.MonkeyPatch) -> None:
    make("walker_walk").close()
    import mujoco

    with monkeypatch.context() as patch:
        patch.setattr(mujoco, "__version__", "4.0.0")
        with pytest.raises(UserError, match=r"version 4\.0\.0 is installed.* 'mujoco>=3\.17,<4'"):
            make("walker_walk")
    monkeypatch.setattr(extras, "_installed", lambda package: False)
    with pytest.raises(UserError, match="needs the package dm_control: run python -m pip install"):
        make("walker_walk")
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    with pytest.raises(UserError, match=r"does not support Python 3\.13 .*: use Python 3\.10 to"):
        make("walker_walk")


def test_extras_are_those_of_the_errors() -> None:
    text = (ROOT / "setup.py").read_text()
    for extra, requirements in extras.REQUIREMENTS.items():
        assert f'"{extra}": [' in text
        for requirement in requirements:
            assert re.search(rf'"{re.escape(requirement)}(;[^"]*)?"', text), requirement
