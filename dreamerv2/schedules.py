"""Schedules of scalar hyper parameters over agent steps, written as strings."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from dreamerv2.common.errors import UserError

_NUMBER_OF_ARGUMENTS = {"linear": 3, "warmup": 2, "exp": 3, "horizon": 3}
_FORMS = (
    "linear(start,end,steps), warmup(steps,value), exp(start,end,halflife), "
    "horizon(start,end,steps)"
)


@dataclass(frozen=True)
class Schedule:
    """A number that may change over agent steps.

    - ``0.1``: constant.
    - ``linear(start,end,steps)``: from start to end in a straight line, then constant.
    - ``warmup(steps,value)``: from zero to value in a straight line, then constant.
    - ``exp(start,end,halflife)``: the distance to end halves every `halflife` steps.
    - ``horizon(start,end,steps)``: discount ``1 - 1 / h`` of a linearly changing horizon h.
    """

    kind: str
    values: tuple[float, ...]

    @classmethod
    def parse(cls, key: str, text: float | str) -> Schedule:
        """Read the value of configuration key `key`.

        Raises:
            UserError: The text is neither a finite number nor one of the forms above.
        """
        try:
            number = float(text)
        except ValueError:
            return cls._parse_call(key, str(text))
        if not math.isfinite(number):
            raise UserError(f"{key} is {text!r}; give a finite number or one of {_FORMS}.")
        return cls("constant", (number,))

    @classmethod
    def _parse_call(cls, key: str, text: str) -> Schedule:
        match = re.fullmatch(r"\s*(\w+)\s*\(([^()]*)\)\s*", text)
        kind = match.group(1) if match else ""
        try:
            values = tuple(float(part) for part in match.group(2).split(",")) if match else ()
        except ValueError:
            values = ()
        usable = all(math.isfinite(value) for value in values)
        if not usable or len(values) != _NUMBER_OF_ARGUMENTS.get(kind, -1):
            raise UserError(f"{key} is {text!r}; give a number or one of {_FORMS}.")
        duration = values[0] if kind == "warmup" else values[2]
        if duration <= 0:
            raise UserError(f"{key} is {text!r}; its duration must be more than 0 agent steps.")
        if kind == "horizon" and min(values[:2]) < 1:
            raise UserError(f"{key} is {text!r}; a horizon is at least 1 agent step.")
        return cls(kind, values)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Return the value at `step` (agent steps, any scalar dtype) as a float32 scalar."""
        forms: dict[str, Callable[..., tf.Tensor]] = {
            "constant": lambda step, value: tf.constant(value, tf.float32),
            "linear": _linear,
            "warmup": lambda step, steps, value: _linear(step, 0.0, value, steps),
            "exp": lambda step, start, end, half: (start - end) * 0.5 ** (step / half) + end,
            "horizon": lambda step, *line: 1.0 - 1.0 / _linear(step, *line),
        }
        return forms[self.kind](tf.cast(step, tf.float32), *self.values)


def _linear(step: tf.Tensor, start: float, end: float, steps: float) -> tf.Tensor:
    mix = tf.clip_by_value(step / steps, 0.0, 1.0)
    return (1.0 - mix) * start + mix * end
