"""Prepares the devices that TensorFlow finds, and says in one line what the agent runs on."""

from __future__ import annotations

import os

import tensorflow as tf

from dreamerv2.common.terminal import format_duration


def prepare_devices() -> None:
    """Find the devices, and let GPU memory grow as needed instead of taking all of it.

    To be called before anything is computed.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.list_logical_devices()


def describe_device(precision: int | str, jit: str) -> str:
    """Return a sentence on the device that was found and how networks are computed on it."""
    names = {"32": "float32", "16": "float16 with loss scaling", "bfloat16": "bfloat16"}
    compiled = {"xla": "compiled by XLA", "graph": "as a graph", "off": "op by op, for debugging"}
    how = f"computing in {names[str(precision)]}, {compiled[jit]}"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        found = [
            tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
            for gpu in gpus
        ]
        return f"Found {', '.join(found)}; {how}."
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"Found no GPU; using {cores} CPU cores, {how}."


def describe_speed(seconds: float, steps: int, left: int, action_repeat: int) -> str:
    """Return a sentence on how long the run will take.

    Args:
        seconds: Time that was measured,
        steps: for this many agent steps with their updates.
        left: Agent steps still to do.
        action_repeat: Frames per agent step.
    """
    rate = steps / seconds
    return (
        f"Running at {rate * action_repeat:,.0f} frames/s: the remaining "
        f"{left * action_repeat:,} frames take about {format_duration(left / rate)}."
    )
