"""What pages tell the game of `play`: which keys are down, where sliders are, commands."""

from __future__ import annotations

import dataclasses
from typing import Any

COMMANDS = ("restart", "pause", "step", "agent", "faster", "slower", "sync")


@dataclasses.dataclass
class Inputs:
    """What the page that was used last has told.

    Attributes:
        client: Name of the page.
        number: Of its latest message; earlier ones that arrive late change nothing.
        held: Codes of the keys that are down, in the order of pressing.
        tapped: Codes of the keys pressed since the last step, so that none is missed.
        rest: Values of the sliders.
        commands: To be carried out.
    """

    client: str = ""
    number: int = -1
    held: list[str] = dataclasses.field(default_factory=list)
    tapped: list[str] = dataclasses.field(default_factory=list)
    rest: list[float] = dataclasses.field(default_factory=list)
    commands: list[str] = dataclasses.field(default_factory=list)

    def take(self, message: Any) -> Inputs:
        """Take a message of a page and return what holds from now on.

        Args:
            message: `client` names the page, `number` counts its messages, `held` lists the codes
                of keys that are down, `pressed` those pressed since its last message, `rest` the
                values of the sliders, and `command`, which may be missing, is one of `COMMANDS`.

        Raises:
            ValueError: The message is something else.
        """
        _check(message)
        inputs = self
        if message["client"] != self.client:
            inputs = Inputs(message["client"], commands=self.commands)
        if message["number"] > inputs.number:
            inputs.number = message["number"]
            inputs.held = list(message["held"])
            inputs.rest = [float(value) for value in message["rest"]]
        inputs.tapped.extend(message["pressed"])
        if message.get("command"):
            inputs.commands.append(message["command"])
        return inputs

    def for_step(self) -> tuple[list[str], list[float]]:
        """Return the keys for one step, in the order of pressing, and the sliders."""
        keys = [code for code in self.held if code not in self.tapped] + self.tapped
        self.tapped = []
        return keys, list(self.rest)


def _check(message: Any) -> None:
    def texts(value: Any) -> bool:
        return (
            isinstance(value, list)
            and len(value) <= 64
            and all(isinstance(item, str) and len(item) <= 32 for item in value)
        )

    def numbers(value: Any) -> bool:
        return (
            isinstance(value, list)
            and len(value) <= 1000
            and all(type(item) in (int, float) and abs(item) <= 1e6 for item in value)
        )

    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")
    valid = {
        "client": isinstance(message.get("client"), str) and len(message["client"]) <= 64,
        "number": type(message.get("number")) is int,
        "held": texts(message.get("held")),
        "pressed": texts(message.get("pressed")),
        "rest": numbers(message.get("rest")),
        "command": message.get("command") in (None, *COMMANDS),
    }
    for name, good in valid.items():
        if not good:
            raise ValueError(f"{name!r} is missing or wrong")
