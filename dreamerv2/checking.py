"""Says what is wrong with an environment of one's own, and how to mend it.

    from dreamerv2.api import check_env
    for finding in check_env(MyEnv):
        print(finding)

    python -m dreamerv2.checking my_module:MyEnv
    python -m dreamerv2.checking gym_CartPole-v1

Needs no TensorFlow.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import pathlib
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from dreamerv2.checking_rules import (
    SEVERITIES,
    Broken,
    Finding,
    failure,
    kind_findings,
    space_findings,
)
from dreamerv2.common import flags
from dreamerv2.common.config import Config
from dreamerv2.common.errors import UserError

__all__ = ["Finding", "check_env", "check_first", "main"]

CONFIGS = pathlib.Path(__file__).resolve().parent / "configs.yaml"

# What Gymnasium's own checker says and what it means here: severity, problem and mend, or None
# where it does not matter here or was looked at already.
_TRANSLATIONS: list[tuple[str, tuple[str, str, str] | None]] = [
    (
        r"does not call `super\(\)\.reset\(seed=seed\)`|unable to be set|`np_random`",
        (
            "warning",
            "reset(seed=...) does not seed `self.np_random`",
            "begin reset() with `super().reset(seed=seed)`",
        ),
    ),
    (r"different from the unwrapped version", None),
    (r"infinity|symmetric and normalized|appears to be an image|is an image", None),
    (r"dtype|not deterministic|deterministic step|equivalent|reused|precision", None),
    (r"render|Casting input", None),
]


def check_env(env: Any, config: Config | None = None, *, steps: int = 1000) -> list[Finding]:
    """Examine an environment: its spaces, what it returns, seeds, episode lengths, scales.

    Args:
        env: A gymnasium.Env, which stays open but has to be reset, or a class or function that
            makes one.
        config: Settings that it is going to be trained with; `render_size`, `time_limit` and
            `clip_rewards` matter.
        steps: Random steps to play, for at most about 20 seconds.

    Returns:
        What was found, errors first; empty if everything is fine.
    """
    findings = _Findings()
    with findings.stopping(), _made(env) as made:
        _examine(made, config or _defaults(), steps, findings)
    return findings.sorted()


def check_first(env: Any, config: Config | None = None) -> tuple[str, list[Finding]]:
    """Look at spaces and a few steps only, before a training.

    Returns:
        A task name for the environment, and what was found.
    """
    from dreamerv2 import custom, tasks

    findings, name = _Findings(), tasks.CUSTOM
    size = (config or _defaults()).render_size
    with findings.stopping(), _made(env) as made:
        findings.extend(kind_findings(made))
        name = custom.task_name(made)
        findings.extend(space_findings(made, size))
        _player(made, size, findings).play(10, 0)
    return name, findings.sorted()


class _Findings:
    """Collects findings, each once."""

    def __init__(self) -> None:
        self._found: dict[Finding, None] = {}
        self._seen: set[str] = set()

    def add(self, finding: Finding) -> None:
        # The numbers in a problem may differ from step to step.
        pattern = re.sub(r"[-+.\d]+", "#", finding.problem)
        if pattern not in self._seen:
            self._seen.add(pattern)
            self._found[finding] = None

    def extend(self, findings: Iterator[Finding]) -> None:
        for finding in findings:
            self.add(finding)

    def sorted(self) -> list[Finding]:
        return sorted(self._found, key=lambda finding: SEVERITIES.index(finding.severity))

    @contextlib.contextmanager
    def stopping(self) -> Iterator[None]:
        """Stop examining at the first problem behind which nothing can be seen."""
        try:
            yield
        except Broken as error:
            self.add(error.finding)


@contextlib.contextmanager
def _made(env: Any) -> Iterator[Any]:
    """Make an environment and close it in the end; one that was made already stays open."""
    from dreamerv2 import custom

    if custom.is_instance(env) or not callable(env):
        yield env
        return
    try:
        made = env()
    except Exception as error:
        raise failure(error, getattr(env, "__name__", "the function")) from error
    try:
        yield made
    finally:
        if hasattr(made, "close"):
            made.close()


def _examine(env: Any, config: Config, steps: int, findings: _Findings) -> None:
    from dreamerv2.checking_play import play_findings, seed_findings

    findings.extend(kind_findings(env))
    findings.extend(space_findings(env, config.render_size))
    player = _player(env, config.render_size, findings)
    seen = player.play(steps, 0)
    limited = bool(config.time_limit or (env.spec and env.spec.max_episode_steps))
    judged = play_findings(seen, limited=limited, clip_rewards=config.clip_rewards, steps=steps)
    findings.extend(judged)
    findings.extend(seed_findings(player))
    findings.extend(_gymnasium_findings(env))


def _player(env: Any, size: tuple[int, int], findings: _Findings) -> Any:
    from dreamerv2.checking_play import Player

    return Player(env, size, findings.add)


def _gymnasium_findings(env: Any) -> Iterator[Finding]:
    """Run Gymnasium's own checker and translate what it says."""
    from gymnasium.utils import env_checker

    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            env_checker.check_env(env, skip_render_check=True, skip_close_check=True)
        except Exception as error:
            messages.append(str(error) or type(error).__name__)
    messages = [str(warning.message) for warning in caught] + messages
    for message in messages:
        text = re.sub(r"\x1b\[\d*m|^WARN: ", "", message).strip()
        text = re.sub(r"^WARN: ", "", text).replace("\n", " ")
        for pattern, meaning in _TRANSLATIONS:
            if re.search(pattern, text):
                if meaning is not None:
                    yield Finding(*meaning)
                break
        else:
            yield Finding(
                "warning",
                f"Gymnasium's own checker says: {text}",
                "see https://gymnasium.farama.org/introduction/create_custom_env/",
            )


def _defaults() -> Config:
    return flags.build(CONFIGS)


def find(target: str) -> Callable[[], Any]:
    """Return the function that makes the environment a command line names.

    Args:
        target: `module:name` of a class or function, `gym_<id>`, or a registered id.

    Raises:
        UserError: There is no such thing.
    """
    from dreamerv2.common.envs import gym

    if target.startswith("gym_"):
        return gym.constructor(target[len("gym_") :])
    module, colon, name = target.partition(":")
    if not colon:
        return gym.constructor(target)
    try:
        loaded = importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"the module {module!r} cannot be imported ({error}); run this where it can be found."
        ) from None
    if not hasattr(loaded, name):
        if importlib.import_module("gymnasium").registry.get(name):
            return gym.constructor(target)
        raise UserError(f"the module {module!r} has no {name!r}; name a class or function in it.")
    return getattr(loaded, name)


class _Parser(argparse.ArgumentParser):
    """Reports errors the way all programs of the package do."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help explains the arguments.")


def main(argv: Sequence[str] | None = None, program: str = "python -m dreamerv2.checking") -> int:
    """Run the command line; returns 1 if there are errors, 2 for bad input."""
    parser = _Parser(prog=program, description="Says what is wrong with an environment.")
    parser.add_argument("env", help="module:Class of your own, gym_<id>, or a registered id")
    parser.add_argument("--steps", type=int, default=1000, help="random steps to play")
    try:
        arguments = parser.parse_args(argv)
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        findings = check_env(find(arguments.env), steps=arguments.steps)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for finding in findings:
        print(finding)
    if not findings:
        print("Everything is fine.")
    return int(any(finding.severity == "error" for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
