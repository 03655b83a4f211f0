"""Turns keys that are held into actions, for every action space.

Keys are called as browsers call their places on the keyboard (`KeyboardEvent.code`), such as
`ArrowLeft`, `KeyW`, `Digit1`. A code `Action<n>` belongs to no key: the page sends it for the
button of an action that has none.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from dreamerv2.common.envs.spaces import ActSpec, one_hot

ARROWS = {"left": "ArrowLeft", "right": "ArrowRight", "up": "ArrowUp", "down": "ArrowDown"}
LETTERS = {"left": "KeyA", "right": "KeyD", "up": "KeyW", "down": "KeyS"}
CAPS = {"ArrowLeft": "←", "ArrowRight": "→", "ArrowUp": "↑", "ArrowDown": "↓", "Space": "space"}

# Keys that push an action of several parts down and up, part by part.
PUSH = (
    ("ArrowLeft", "ArrowRight"), ("ArrowDown", "ArrowUp"), ("KeyA", "KeyD"), ("KeyS", "KeyW"),
    ("KeyJ", "KeyL"), ("KeyK", "KeyI"),
)  # fmt: skip

# The parts of an Atari action, in the order in which ALE writes them, and their keys.
ATARI = {
    "UP": ("ArrowUp", "KeyW"),
    "DOWN": ("ArrowDown", "KeyS"),
    "RIGHT": ("ArrowRight", "KeyD"),
    "LEFT": ("ArrowLeft", "KeyA"),
    "FIRE": ("Space",),
}
_OPPOSITE = {"UP": "DOWN", "DOWN": "UP", "LEFT": "RIGHT", "RIGHT": "LEFT"}
_ATARI_NAME = re.compile(r"NOOP|(?=.)(UP|DOWN)?(RIGHT|LEFT)?(FIRE)?")


@dataclasses.dataclass(frozen=True)
class Key:
    """One line of the legend: any of `codes` does what `label` says."""

    label: str
    codes: tuple[str, ...]

    @property
    def caps(self) -> list[str]:
        """What is printed on the keys."""
        return _caps(self.codes)


@dataclasses.dataclass(frozen=True)
class Slider:
    """One part of an action that the page shows as a slider.

    Attributes:
        label: Name of the part.
        low: Value while the first key is held.
        high: Value while the second key is held.
        rest: Value at first; a key that is held takes precedence over the slider.
        step: Distance of values, 0 for any.
        codes: Of the keys that push down and up; empty where no keys are left.
    """

    label: str
    low: float
    high: float
    rest: float
    step: float
    codes: tuple[str, ...]

    @property
    def caps(self) -> list[str]:
        """What is printed on the keys."""
        return _caps(self.codes)


class Controls(Protocol):
    """From keys and sliders to actions, and back to words."""

    keys: Sequence[Key]
    sliders: Sequence[Slider]

    def action(self, held: Sequence[str], rest: Sequence[float]) -> np.ndarray:
        """Return the action ``(A,)`` float32 for keys in the order of pressing and sliders."""

    def describe(self, action: np.ndarray) -> str:
        """Name an action."""

    def lit(self, action: np.ndarray) -> list[int]:
        """Return which of `keys` an action uses."""

    def values(self, action: np.ndarray) -> list[float]:
        """Return where an action puts the sliders."""


def make_controls(space: ActSpec, names: Sequence[str] | None = None) -> Controls:
    """Choose the controls for an action space.

    Args:
        space: Of the agent.
        names: Of the actions of a discrete space, where they are known. Those of Atari, such as
            `UPRIGHTFIRE`, make their parts into keys that can be held together.
    """
    if space.kind != "discrete":
        return SliderControls(space)
    size = space.sizes[0]
    if names is None or len(names) != size:
        return DiscreteControls([f"action {index}" for index in range(size)])
    if all(_ATARI_NAME.fullmatch(name) for name in names):
        return AtariControls(names)
    return DiscreteControls(names)


class AtariControls:
    """Arrow keys or WASD, and space, pressed together as on a joystick."""

    sliders: Sequence[Slider] = ()

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._parts = [_atari_parts(name) for name in names]
        used = set().union(*self._parts)
        self.keys: Sequence[Key] = [
            Key(part.lower(), codes) for part, codes in ATARI.items() if part in used
        ]
        self._part_of = {code: part for part, codes in ATARI.items() for code in codes}

    def action(self, held: Sequence[str], rest: Sequence[float] = ()) -> np.ndarray:
        """Return the action that uses most of the keys, the latest one above all."""
        wanted: list[str] = []
        for code in held:
            part = self._part_of.get(code)
            if part is not None:
                # Of two opposite directions the later one counts.
                wanted = [w for w in wanted if w not in (part, _OPPOSITE.get(part))] + [part]
        latest = set(wanted[-1:])

        def fit(parts: set[str]) -> tuple[bool, int]:
            return latest <= parts, len(parts)

        fitting = [i for i, parts in enumerate(self._parts) if parts <= set(wanted)]
        best = max(fitting, key=lambda i: fit(self._parts[i]), default=0)
        return one_hot(np.array([[best]]), (len(self._names),))[0]

    def describe(self, action: np.ndarray) -> str:
        """Name an action, as in `up right fire`."""
        parts = self._parts[int(np.argmax(action))]
        return " ".join(part.lower() for part in ATARI if part in parts) or "nothing"

    def lit(self, action: np.ndarray) -> list[int]:
        """Return which of `keys` an action uses."""
        parts = self._parts[int(np.argmax(action))]
        return [i for i, key in enumerate(self.keys) if key.label.upper() in parts]

    def values(self, action: np.ndarray) -> list[float]:
        """Return nothing: there are no sliders."""
        return []


class DiscreteControls:
    """Number keys for the first ten actions, arrow keys for the first few, buttons for all.

    What happens while no key is held: with three actions the middle one, which moves nothing in
    most environments that have three; else the first. The arrow keys are left and right for two
    or three actions, and for more the actions after the first: left, right, up, down, space.
    """

    sliders: Sequence[Slider] = ()

    def __init__(self, names: Sequence[str]) -> None:
        size = len(names)
        self._names = list(names)
        self._idle = 1 if size == 3 else 0
        if size <= 3:
            arrows = {0: "left", size - 1: "right"} if size > 1 else {}
        else:
            arrows = {1: "left", 2: "right", 3: "up", 4: "down"}
        keys = []
        for index, name in enumerate(names):
            codes = []
            if index in arrows:
                codes += [ARROWS[arrows[index]], LETTERS[arrows[index]]]
            if index == 5:
                codes.append("Space")
            if index < 10:
                codes += [f"Digit{index}", f"Numpad{index}"]
            keys.append(Key(name, (*codes, f"Action{index}")))
        self.keys: Sequence[Key] = keys
        self._index = {code: i for i, key in enumerate(self.keys) for code in key.codes}

    def action(self, held: Sequence[str], rest: Sequence[float] = ()) -> np.ndarray:
        """Return the action of the key that was pressed last."""
        chosen = [self._index[code] for code in held if code in self._index]
        return one_hot(np.array([[(chosen or [self._idle])[-1]]]), (len(self._names),))[0]

    def describe(self, action: np.ndarray) -> str:
        """Name an action."""
        return self._names[int(np.argmax(action))]

    def lit(self, action: np.ndarray) -> list[int]:
        """Return the one key of an action."""
        return [int(np.argmax(action))]

    def values(self, action: np.ndarray) -> list[float]:
        """Return nothing: there are no sliders."""
        return []


class SliderControls:
    """A slider for each part of a continuous or several-part action, and keys that push it."""

    keys: Sequence[Key] = ()

    def __init__(self, space: ActSpec) -> None:
        self._space = space
        self._continuous = space.kind == "continuous"
        parts = range(space.dim if self._continuous else len(space.sizes))
        self.sliders: Sequence[Slider] = [self._slider(part) for part in parts]

    def _slider(self, part: int) -> Slider:
        codes = PUSH[part] if part < len(PUSH) else ()
        if self._continuous:
            return Slider(f"part {part}", -1.0, 1.0, 0.0, 0.0, codes)
        size = self._space.sizes[part]
        rest = 1.0 if size == 3 else 0.0  # As for one discrete action.
        return Slider(f"part {part}", 0.0, float(size - 1), rest, 1.0, codes)

    def action(self, held: Sequence[str], rest: Sequence[float]) -> np.ndarray:
        """Return the sliders' values, with those parts at their ends whose keys are held."""
        values = [slider.rest for slider in self.sliders]
        if len(rest) == len(values):
            values = [
                float(np.clip(value, slider.low, slider.high))
                for value, slider in zip(rest, self.sliders, strict=True)
            ]
        for code in held:
            for part, slider in enumerate(self.sliders):
                if code in slider.codes:
                    values[part] = slider.low if code == slider.codes[0] else slider.high
        if self._continuous:
            return np.asarray(values, np.float32)
        return one_hot(np.rint([values]), self._space.sizes)[0]

    def describe(self, action: np.ndarray) -> str:
        """Write the values of an action."""
        form = "{:+.2f}" if self._continuous else "{:.0f}"
        return "  ".join(form.format(value) for value in self.values(action))

    def lit(self, action: np.ndarray) -> list[int]:
        """Return nothing: there are sliders instead of keys."""
        return []

    def values(self, action: np.ndarray) -> list[float]:
        """Return where an action puts the sliders."""
        if self._continuous:
            return [float(value) for value in action]
        parts = np.split(action, np.cumsum(self._space.sizes)[:-1])
        return [float(np.argmax(part)) for part in parts]


def atari_names(game: str, full_actions: bool) -> list[str]:
    """Ask ALE for the names of a game's actions, such as `UPRIGHTFIRE`.

    Args:
        game: Name of the game, in lower snake case.
        full_actions: All 18 actions instead of those that the game reacts to.

    Raises:
        ImportError: ALE is not installed.
        UserError: There is no such game.
    """
    import ale_py
    from ale_py.env import AtariEnv

    from dreamerv2.common.envs import atari

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    env = AtariEnv(atari.rom(game), full_action_space=full_actions)
    try:
        return list(env.get_action_meanings())
    finally:
        env.close()


def _atari_parts(name: str) -> set[str]:
    """Take `UPRIGHTFIRE` apart."""
    return {part for part in ATARI if part in name}


def _caps(codes: Sequence[str]) -> list[str]:
    """Return what is printed on keys; the number pad repeats digits, and buttons have no keys."""
    return [
        CAPS.get(code, re.sub("^(Key|Digit)", "", code))
        for code in codes
        if not code.startswith(("Action", "Numpad"))
    ]
