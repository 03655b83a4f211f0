"""Prepares the devices that TensorFlow finds, and says in one line what the agent runs on."""

from __future__ import annotations

import os
import time

import tensorflow as tf

from dreamerv2.common.terminal import format_duration


def prepare_devices(alone: bool = True) -> None:
    """Find the devices, and let GPU memory grow as needed instead of taking all of it.

    To be called before anything is computed.

    Args:
        alone: Several processes are connected first, which cannot be done afterwards.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    if alone:
        tf.config.list_logical_devices()


def describe_device(precision: int | str, jit: str) -> str:
    """Return a sentence on the device that was found and how networks are computed on it."""
    names = {"32": "float32", "16": "float16 with loss scaling", "bfloat16": "bfloat16"}
    compiled = {"xla": "compiled by XLA", "graph": "as a graph", "off": "op by op, for debugging"}
    how = f"computing in {names[str(precision)]}, {compiled[jit]}"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        found = [
            tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus
        ]
        return f"Found {', '.join(found)}; {how}."
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"Found no GPU; using {cores} CPU cores, {how}."


class SpeedNote:
    """Says once, as soon as it can be measured, how long a run will take."""

    # The first updates compile; the ones after them are timed.
    _WARM, _TIMED = 3, 10

    def __init__(self) -> None:
        self._begin: tuple[float, int] | None = None
        self._done = False

    def __call__(self, updates: int, steps: int, left: int, action_repeat: int) -> str | None:
        """Return the sentence at the right call, None at all others.

        Args:
            updates: Updates made by this process.
            steps: Agent steps of the run so far.
            left: Agent steps still to do.
            action_repeat: Environment frames per agent step.
        """
        if self._done or updates < self._WARM:
            return None
        if self._begin is None:
            self._begin = time.monotonic(), steps
        if updates < self._WARM + self._TIMED or steps <= self._begin[1]:
            return None
        self._done = True
        rate = (steps - self._begin[1]) / (time.monotonic() - self._begin[0])
        return (
            f"Measured {rate * action_repeat:,.0f} frames/s: the remaining "
            f"{left * action_repeat:,} frames take about {format_duration(left / rate)}."
        )
