from __future__ import annotations

import pytest

from dreamerv2 import device
from dreamerv2.common.clock import Every
from dreamerv2.metrics import MetricBuffer


def test_description_names_what_was_found_and_chosen() -> None:
    text = device.describe_device(16, "graph")
    assert "GPU" in text and "float16" in text and "as a graph" in text


def test_speed_is_said_once_after_the_updates_that_compile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(device.time, "monotonic", lambda: now)
    note = device.SpeedNote()
    said = []
    train = Every(4)
    updates = 0
    for step in range(1, 200):
        now += 0.5 if updates >= 3 else 100.0
        updates += train.count(step)
        said.append(note(updates, step, 1000 - step, 4))
    texts = [text for text in said if text]
    assert len(texts) == 1
    # Two agent steps a second are eight frames a second.
    assert texts[0].startswith("Measured 8 frames/s")
    left = 1000 - (said.index(texts[0]) + 1)
    assert f"remaining {4 * left:,} frames" in texts[0]


def test_metrics_average_and_leave_out_what_is_not_finite() -> None:
    buffer = MetricBuffer()
    assert buffer.result() == ({}, {})
    for value in (1.0, 3.0, float("inf")):
        buffer.add({"a": value, "bad": float("nan"), "b": 2})
    assert len(buffer) == 3
    result, bad = buffer.result()
    assert bad == {"a": 1, "bad": 3}
    assert result["a"] == 2.0 and result["b"] == 2.0
    assert result["bad"] != result["bad"]
    assert len(buffer) == 0 and buffer.result() == ({}, {})
    buffer.add({"c": 1.0})
    assert buffer.result() == ({"c": 1.0}, {})


def test_metrics_may_come_and_go() -> None:
    buffer = MetricBuffer()
    for metrics in ({"a": 1.0, "b": 10.0}, {"a": 2.0}, {"a": 6.0}, {"c": 5.0, "b": 20.0}):
        buffer.add(metrics)
    assert len(buffer) == 4
    assert buffer.result() == ({"a": 3.0, "b": 15.0, "c": 5.0}, {})
    assert buffer.result() == ({}, {})
