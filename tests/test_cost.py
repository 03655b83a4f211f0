"""The arithmetic of benchmarks/cost.py, against hand counts and the profiler of TensorFlow."""

from __future__ import annotations

import importlib.util
import pathlib
from typing import Any

import pytest
import tensorflow as tf
from tiny import IMAGE, VECTOR, agent, config

ROOT = pathlib.Path(__file__).resolve().parents[1]
SPEC = importlib.util.spec_from_file_location("cost", ROOT / "benchmarks" / "cost.py")
assert SPEC and SPEC.loader
cost: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(cost)


def profiled(function: Any, *arguments: Any) -> float:
    """Return the multiplications in a function's matrix products, by TensorFlow's own count."""
    graph = tf.function(function, autograph=False).get_concrete_function(*arguments).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    profile = tf.compat.v1.profiler.profile(graph, options=options)
    nodes, found = [profile], 0
    while nodes:
        node = nodes.pop()
        nodes += node.children
        found += node.float_ops if node.name.rpartition("/")[2].startswith("MatMul") else 0
    return found / 2


def test_multiplications_of_convolutions() -> None:
    counts = cost.products(agent(obs=IMAGE), (64, 64))
    # 64 -> 31 -> 14 -> 6 -> 2 pixels; back from 1 over 5, 13 and 30 to 64.
    assert counts["encoder"] == 16 * (2 * 31**2 + 8 * 14**2 + 32 * 6**2 + 128 * 2**2)
    feat = 3 * 4 + 6
    assert counts["decoder"] == feat * 64 + 64 * 8 * 25 + 8 * 4 * 25 * 5**2 + 4 * 2 * 36 * 13**2 + (
        2 * 36 * 30**2
    )


def test_multiplications_of_dense_layers() -> None:
    tiny = agent()
    counts = cost.products(tiny, (1, 1))
    model, state = tiny.world_model, tiny.world_model.rssm.initial(1)
    action, embed = tf.zeros([1, 4]), tf.zeros([1, 7])
    assert profiled(lambda: model.encoder({"vector": tf.zeros([1, 5])})) == counts["encoder"]
    step = profiled(lambda: model.rssm.img_step(state, action, None))
    assert step == counts["step"] + counts["prior"]
    seen = profiled(lambda: model.rssm.obs_step(state, action, embed, tf.zeros([1], tf.bool)))
    assert seen == counts["step"] + counts["posterior"]
    assert profiled(lambda: tiny.behavior.actor(tf.zeros([1, 18]))) == counts["actor"]
    assert VECTOR.keys() == {"vector"}


def test_operations_of_an_update_and_updates_of_a_run() -> None:
    settings = config({
        "dataset": {"batch": 2, "length": 5}, "imag_horizon": 3, "steps": 1000, "prefill": 200,
        "train_every": 4, "train_steps": 2, "pretrain": 7,
    })  # fmt: skip
    names = ("encoder", "step", "posterior", "prior", "decoder", "reward", "discount", "actor",
             "critic")  # fmt: skip
    counts = {name: 10**index for index, name in enumerate(names)}
    model = 3 * (10**0 + 10**1 + 10**2 + 10**3 + 10**4 + 10**5 + 10**6)
    imagination = 3 * (10**1 + 10**3 + 10**7) + 4 * (10**5 + 10**6 + 10**8)
    behavior = 3 * (2 * 10**7 + 3 * 10**8)
    flop = cost.update_flop(counts, settings, False)
    assert flop == 2 * 10 * (model + imagination + behavior)
    assert cost.update_flop(counts, settings, True) == flop + 2 * 10 * 2 * imagination
    assert cost.updates_of_a_run(settings) == 800 / 4 * 2 + 7


def test_projection() -> None:
    first = {
        "parameters": 2e6, "memory_mb": 10.0, "flop": 4e12, "update_s": 2.0, "policy_s": 0.01,
        "peak_flops": 1e11, "updates": 864.0, "steps": 8640.0, "frames": 34560.0,
    }  # fmt: skip
    slower = {**first, "update_s": 6.0, "peak_flops": 5e10}
    result = cost.summary([first, slower, {**first, "update_s": 4.0}], tflops=2)
    assert result["update_s"] == 4.0
    assert (result["update_min_s"], result["update_max_s"]) == (2.0, 6.0)
    assert result["peak_gflops"] == pytest.approx(100)
    assert result["of_peak"] == pytest.approx(10)  # 1 TFLOP/s where 0.1 is the peak.
    assert result["gpu_days"] == pytest.approx(864 * 4e12 / 2e12 / 86400)
    assert result["days_here"] == pytest.approx(864 * 4 / 86400)
    assert result["acting_days_here"] == pytest.approx(8640 * 0.01 / 86400)
    assert result["tflops_for_10_days"] == pytest.approx(864 * 4 / 864000)
    text = cost.arithmetic("x", result, 2)
    assert "864 updates x 4.000 TFLOP = 0.00346 EFLOP" in text
    assert cost.table({"x": result}).count("|") == 3 * (len(cost.COLUMNS) + 2)
    measured = ("update_s", "policy_s", "peak_flops", "memory_mb")
    bare = cost.summary([{k: v for k, v in first.items() if k not in measured}], tflops=2)
    assert bare["gpu_days"] == result["gpu_days"]
    assert cost.table({"x": bare}).count("|") == 3 * (4 + 2)


def test_every_configuration_with_a_task_is_measured() -> None:
    names = cost.all_configurations()
    assert {"atari", "atari_paper", "atari_schedules", "montezuma", "catch"} <= set(names)
    assert "debug" not in names


def test_configurations_are_names_and_settings() -> None:
    settings = cost.configuration(["atari", "small", "precision=bfloat16", "dataset.batch=3"])
    assert settings.precision == "bfloat16" and settings.atari_full_actions
    assert settings.dataset.batch == 3 and settings.rssm.deter == 200
