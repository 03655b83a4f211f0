"""Values that are not finite: found, named, counted; never saved in place of good ones."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from tiny import agent, batch, same, values

from dreamerv2 import health, train
from dreamerv2.common import checkpoint_reader
from dreamerv2.health import Health, TrainingDiverged
from dreamerv2.metrics import MetricBuffer

TINY = ["--configs", "debug", "--jit", "off", "--task", "dummy_count", "--eval_eps", "0",
        "--encoder.cnn_keys", "$^", "--decoder.cnn_keys", "$^", "--prefill", "30",
        "--train_every", "2", "--log_every", "10"]  # fmt: skip


def bad(**skipped: float) -> dict[str, tf.Tensor]:
    return {f"{name}_skipped": tf.constant(value) for name, value in skipped.items()}


def test_a_state_after_a_skipped_update_is_not_saved() -> None:
    watch = Health({}, scaling=False)
    assert watch.trouble() == ""
    for model, actor, trouble in [(0, 0, ""), (1, 0, "model"), (1, 1, "model, actor"),
                                  (0, 1, "actor"), (0, 0, "")]:  # fmt: skip
        watch.update(bad(model=float(model), actor=float(actor)))
        assert watch.trouble() == (trouble and f"the gradients of {trouble} are not finite")
    watch.update(bad(model=1.0))  # What is measured may change, as when exploration ends.
    assert watch.trouble() == "the gradients of model are not finite"


def test_loss_scaling_may_look_for_its_scale() -> None:
    watch = Health({}, scaling=True)
    for _ in range(health.RECOVERING):
        watch.update(bad(model=1.0))
        assert watch.trouble() == ""
    watch.update(bad(model=1.0))
    assert watch.trouble()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_not_saved(value: float) -> None:
    weight = tf.Variable([1.0, 2.0])
    watch = Health({"a": weight, "count": tf.Variable(3)}, scaling=False)
    assert watch.trouble() == ""
    weight.assign([1.0, value])
    assert watch.trouble() == "there are weights that are not finite"


def test_a_run_ends_after_many_updates_in_a_row_only() -> None:
    watch = Health({}, scaling=True)
    for count in range(3 * health.PATIENCE):
        watch.update(bad(model=float(count % health.PATIENCE > 0), actor=0.0))
        watch.check(0)
    with pytest.raises(TrainingDiverged, match=r"none of the last 100 updates up to frame 1,234 "
                       r"could be applied, because the gradients of actor are not finite; the last "
                       r"checkpoint is kept: lower"):  # fmt: skip
        for _ in range(health.PATIENCE):
            watch.update(bad(model=0.0, actor=1.0))
            watch.check(1234)


def test_a_batch_with_a_bad_reward_changes_no_weight_and_is_named() -> None:
    learner, data = agent({"clip_rewards": "identity"}), batch()
    before = values(learner.variables())
    data["reward"][0, 1] = np.nan
    _, metrics = learner.train(data, 0)
    after = values(learner.variables())
    changed = {key for key in before if not np.array_equal(before[key], after[key])}
    weights = {key for key in changed if key.startswith(("weights", "optimizers/model"))}
    assert not {key for key in weights if "actor" not in key and "critic" not in key}
    assert all(np.isfinite(after[key]).all() for key in after)
    buffer = MetricBuffer()
    buffer.add(metrics)
    _, names = buffer.result()
    assert {"reward_loss", "model_loss", "model_grad_norm"} <= set(names)
    assert metrics["model_skipped"] == 1
    watch = Health(learner.variables(), scaling=False)
    watch.update(metrics)
    assert "model" in watch.trouble()
    _, metrics = learner.train(batch(seed=1), 1)
    watch.update(metrics)
    assert metrics["model_skipped"] == 0 and watch.trouble() == ""


def test_float16_finds_a_scale_that_does_not_overflow() -> None:
    learner, data = agent({"precision": 16}), batch()
    state = learner.variables()
    scales = [key for key in state if key.endswith("loss_scale")]
    assert len(scales) == 3
    for key in scales:
        state[key].assign(2.0**24)
    weights = values({key: v for key, v in state.items() if key.startswith("weights/rssm")})
    skipped = []
    for _ in range(24):
        _, metrics = learner.train(data, 0)
        skipped.append(float(metrics["model_skipped"]))
        if len(skipped) > 1 and not skipped[-1]:
            break
    # Every overflow halves the scale and changes nothing else; then all goes on.
    assert skipped == [1.0] * (len(skipped) - 1) + [0.0] and len(skipped) > 1
    assert metrics["model_loss_scale"] == 2.0 ** (24 - (len(skipped) - 1))
    assert np.isfinite(metrics["model_grad_norm"])
    assert not same(weights, values({key: state[key] for key in weights}))


def updates(logdir: pathlib.Path) -> int:
    """Updates before the newest checkpoint, whose values are all finite."""
    (name,) = checkpoint_reader.names(logdir / "checkpoint")
    reader = tf.train.load_checkpoint(str(logdir / "checkpoint" / name))
    for key, shape in reader.get_variable_to_shape_map().items():
        if shape and reader.get_variable_to_dtype_map()[key].is_floating:
            assert np.isfinite(reader.get_tensor(key)).all(), key
    _, states = checkpoint_reader.read(logdir / "checkpoint", {}, [name])
    return int(states["progress"]["updates"])


def test_a_diverged_run_stops_and_leaves_the_last_good_checkpoint(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logdir = tmp_path / "run"
    command = [*TINY, "--logdir", str(logdir), "--steps", "36", "--save_keep", "1"]
    assert train.main(command) == 0
    made = updates(logdir)
    capsys.readouterr()
    monkeypatch.setattr(health, "PATIENCE", 6)
    diverging = [*command, "--steps", "100", "--model_opt.lr", "1e39", "--save_every", "1e-3"]
    assert train.main(diverging) == 1
    out, err = capsys.readouterr()
    assert err.startswith("error: none of the last ") and err.count("\n") == 1
    assert "the gradients of" in err and "the last checkpoint is kept" in err
    assert "Values that are not finite in the last" in out and "kl_loss (" in out
    # The state may have been saved once more before the first bad update, but not after it.
    assert updates(logdir) == made
    rows = [json.loads(line) for line in (logdir / "metrics.jsonl").read_text().splitlines()]
    counts = [row["updates_not_finite"] for row in rows if "updates_not_finite" in row]
    assert counts[0] == 0 and counts[-1] > 0
    # From there the run goes on with a sensible rate.
    assert train.main([*command, "--steps", "70"]) == 0
    assert updates(logdir) > made
