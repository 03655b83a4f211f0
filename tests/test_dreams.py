"""Open-loop predictions: alignment with the truth by a model that is known, files, refusals."""

from __future__ import annotations

import json
import types

import av
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tiny import DISCRETE, IMAGE, VECTOR, agent, batch, config, randomize

from dreamerv2 import dreams
from dreamerv2.common.envs.spaces import ActSpec, ObsSpec
from dreamerv2.common.errors import UserError
from dreamerv2.common.replay import Replay
from dreamerv2.dream_windows import Windows
from dreamerv2.loading import Run

CONTEXT, LENGTH = 3, 8


class Line:
    """A world model of a point on a line that knows what each action does.

    It sees positions exactly. When it imagines, it is wrong by `drift` more at every step.
    """

    def __init__(self, drift=0.0):
        self.drift = drift
        self.rssm = self
        self.heads = {"reward": types.SimpleNamespace(dist=self._reward)}

    def preprocess(self, data):
        return {k: tf.cast(v, tf.float32) for k, v in data.items()}

    def encoder(self, data):
        return data["vector"]

    def observe(self, embed, action, is_first, state, seed):
        return {"deter": embed}, None

    def imagine(self, action, state, seed):
        return {"deter": state["deter"][:, None] + tf.cumsum(action + self.drift, 1)}

    def get_feat(self, state):
        return state["deter"]

    def _reward(self, feat):
        return types.SimpleNamespace(mean=lambda: feat[..., 0] / 10.0)

    @property
    def decoder(self):
        def decode(feat):
            image = feat[..., None, None] / 255.0 - 0.5
            return {"image": tf.broadcast_to(image, [*feat.shape[:2], 2, 2, 1]), "vector": feat}

        decode.cnn_keys, decode.mlp_keys = ["image"], ["vector"]
        return decode


def line_windows(count=20):
    rng = np.random.default_rng(0)
    action = rng.integers(1, 6, (count, LENGTH, 1)).astype(np.float32)
    position = 50 + np.cumsum(action, 1)
    data = {
        "vector": position,
        "image": np.broadcast_to(position[..., None, None], (count, LENGTH, 2, 2, 1)).astype(
            np.uint8
        ),
        "reward": position[..., 0] / 10.0,
        "action": action,
        "is_first": np.zeros((count, LENGTH), bool),
    }
    return Windows(data, np.arange(count), CONTEXT, [])


@pytest.mark.parametrize("drift", [0.0, 2.0])
def test_step_t_of_the_dream_is_compared_with_step_t_of_the_truth(drift):
    model, windows = Line(drift), line_windows()
    predict = dreams.make_predict(model, CONTEXT, compiled=False)
    result = dreams.measure(model, predict, windows, examples=2, seed=0)
    measures, shown = result.measures, result.shown
    wrong = drift * np.maximum(np.arange(LENGTH) - CONTEXT + 1, 0)
    std = windows.data["vector"].std()
    total = np.cumsum(wrong) / 10
    expected = {
        "image": (wrong / 255) ** 2,
        "vector": (wrong / std) ** 2,
        "reward": (wrong / 10) ** 2,
        "sum of rewards": total**2,
    }
    assert measures.keys() == expected.keys()
    for key, values in expected.items():
        errors = measures[key].errors()
        assert errors["model"].shape == (20, LENGTH)
        np.testing.assert_allclose(errors["model"], [values] * 20, atol=1e-6, rtol=1e-3)
        np.testing.assert_allclose(errors["reconstruction"], 0, atol=1e-10)
        assert errors["mean"][:, CONTEXT:].mean() > 1e-4
    last = measures["image"].errors()["last"]
    position = windows.data["vector"][..., 0]
    np.testing.assert_allclose(
        last, ((position - position[:, CONTEXT - 1 : CONTEXT]) / 255) ** 2, rtol=1e-3, atol=1e-9
    )
    truth, prediction = shown["image"]
    assert truth.shape == prediction.shape == (2, LENGTH, 2, 2, 1)
    np.testing.assert_array_equal(truth[..., 0, 0, 0], position[:2])
    np.testing.assert_array_equal(prediction[..., 0, 0, 0], position[:2] + wrong)
    np.testing.assert_allclose(shown["vector"][1][..., 0], position[:2] + wrong, rtol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_context_is_reconstruction_and_the_rest_is_the_open_loop_of_the_model(compiled):
    model = agent(obs={**IMAGE, **VECTOR}).world_model
    randomize(model.variables, scale=0.3)
    data = batch({**IMAGE, **VECTOR}, leading=(2, 6))
    predict = dreams.make_predict(model, 2, compiled)
    opened, closed = predict(data, None)
    expected = model.open_loop(data, 2, None)
    np.testing.assert_allclose(opened["vector"], expected["vector"], atol=1e-5)
    np.testing.assert_allclose(opened["image"], np.clip(expected["image"] + 0.5, 0, 1), atol=1e-5)
    _, outputs, _ = model.loss(data)
    np.testing.assert_allclose(closed["vector"], model.decoder(outputs.feat)["vector"], atol=1e-4)
    np.testing.assert_allclose(
        closed["reward"], model.heads["reward"].dist(outputs.feat).mean(), atol=1e-4
    )
    for key in ("image", "vector", "reward"):
        np.testing.assert_array_equal(opened[key][:, :2], closed[key][:, :2])
        assert np.any(np.abs(opened[key][:, 2:] - closed[key][:, 2:]) > 1e-4)


def test_the_future_is_not_seen():
    model = agent(obs={**IMAGE, **VECTOR}).world_model
    randomize(model.variables, scale=0.3)
    data = batch({**IMAGE, **VECTOR}, leading=(2, 6))
    predict = dreams.make_predict(model, 2, compiled=False)
    seed = tf.constant([1, 2])
    opened, _ = predict(data, seed)
    changed = {k: v.copy() for k, v in data.items()}
    changed["vector"][:, 2:] += 1
    changed["image"][:, 2:] //= 2
    again, _ = predict(changed, seed)
    for key in opened:
        np.testing.assert_array_equal(opened[key], again[key])
    changed["action"][:, 4] = np.roll(data["action"][:, 4], 1, -1)
    other, _ = predict(changed, seed)
    np.testing.assert_array_equal(opened["vector"][:, :4], other["vector"][:, :4])
    assert np.any(opened["vector"][:, 4:] != other["vector"][:, 4:])


def make_run(path, obs, lengths, changes=None):
    """A run with random weights and a replay of random episodes."""
    rng = np.random.default_rng(0)
    replay = Replay(path / "replay", capacity=10_000, length=1)
    for length in lengths:
        data = batch(obs, leading=(length,), seed=int(rng.integers(1000)))
        for t in range(length):
            row = {key: value[t] for key, value in data.items()}
            row |= {"is_first": np.bool_(t == 0), "is_last": np.bool_(t == length - 1)}
            replay.add(row)
    replay.close()
    return Run(path, config(changes), obs, DISCRETE, agent(changes, obs), "ckpt-3", 100, 20)


def test_files_and_numbers(tmp_path):
    obs = {"camera": IMAGE["image"], "nested/joints": VECTOR["vector"]}
    run = make_run(tmp_path / "run", obs, [12, 30, 12, 5, 14, 12, 12])
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in run.path.rglob("*.chunk")}
    said = []
    files = dreams.write(run, tmp_path / "out", horizon=7, windows=10, examples=2, say=said.append)
    after = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in run.path.rglob("*.chunk")}
    assert before == after
    assert said == []
    names = [f"dream_camera.{kind}" for kind in ("gif", "mp4", "png", "pdf")]
    names += [
        f"{stem}.{kind}"
        for stem in ("dream_nested.joints", "dream_reward", "error_growth")
        for kind in ("png", "pdf")
    ]
    assert sorted(f.name for f in files) == sorted([*names, "error_growth.json"])
    assert sorted(files) == sorted((tmp_path / "out").iterdir())
    assert all(f.stat().st_size > 500 for f in files)
    with Image.open(tmp_path / "out" / "dream_camera.gif") as gif:
        assert gif.n_frames == 12
    with av.open(str(tmp_path / "out" / "dream_camera.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 12
    numbers = json.loads((tmp_path / "out" / "error_growth.json").read_text())
    errors = numbers.pop("errors")
    assert numbers == {
        "task": "dummy_catch", "checkpoint": "ckpt-3", "frames": 100, "source": "replay",
        "seed": 0, "windows": 7, "episodes": 6, "context": 5, "horizon": 7, "notes": [],
        "confidence": 0.95,
    }  # fmt: skip
    assert errors.keys() == {"camera", "nested/joints", "reward", "sum of rewards"}
    for key, curves in errors.items():
        assert curves.pop("unit").startswith("squared error")
        assert ("last" in curves) == (key in obs)
        for curve in curves.values():
            assert len(curve["mean"]) == 8
            assert np.all(np.array(curve["low"]) <= np.array(curve["mean"]) + 1e-6)
            assert np.all(np.array(curve["mean"]) <= np.array(curve["high"]) + 1e-6)
        assert curves["model"]["mean"][0] == pytest.approx(curves["reconstruction"]["mean"][0])


def test_fresh_episodes_and_short_ones(tmp_path):
    obs = {"image": ObsSpec((64, 64, 3), np.dtype("uint8"))}
    act = ActSpec("discrete", (3,))
    run = Run(tmp_path / "none", config(), obs, act, agent({}, obs, act), "ckpt-1", 0, 0)
    said = []
    dreams.write(run, tmp_path / "out", "episodes", windows=3, say=said.append)
    assert said[0] == "Playing 187 steps of dummy_catch for the dreams to start from."
    assert said[1].startswith("6 steps are imagined instead of 45, since dreams do not cross")
    numbers = json.loads((tmp_path / "out" / "error_growth.json").read_text())
    assert (numbers["horizon"], numbers["windows"], numbers["notes"]) == (6, 3, [said[1]])
    assert numbers["source"] == "episodes"
    assert not run.path.exists()


def test_refusals_leave_nothing_behind(tmp_path):
    run = make_run(tmp_path / "run", VECTOR, [4, 3])
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"dreams start from replay or episodes, not from 'x'\."):
        dreams.write(run, out, "x")
    for name in ("context", "horizon", "windows", "examples"):
        with pytest.raises(UserError, match=f"dreams have {name} 0; it must be at least 1"):
            dreams.write(run, out, **{name: 0})
    with pytest.raises(UserError, match="the longest of 2 episodes in the replay"):
        dreams.write(run, out)
    with pytest.raises(UserError, match="there is no replay in"):
        dreams.write(Run(tmp_path, run.config, VECTOR, DISCRETE, run.agent, "", 0, 0), out)
    assert not out.exists()
    out.write_text("a file")
    with pytest.raises(UserError, match=r"dreams can't be written to .*out' \(File exists\)"):
        dreams.write(run, out, context=1)
