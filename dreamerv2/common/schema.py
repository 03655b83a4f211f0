"""What the values of a configuration may be: types, choices and limits, with errors people read.

A `Config` asks a `Schema` for one `Field` per key. Without a rule the type of the default decides;
rules, written as data beside the defaults, narrow or widen that by regular expression over keys:

    rules:
      dataset\\.batch: {min: 1}
      jit: {choices: [auto, xla, graph, off]}
      rssm\\.discrete: {type: int, min: 2, also: [False]}
      actor_ent: {type: float, also_text: {'\\w+\\(.*\\)': a schedule such as linear(1,0,1e5)}}

When several rules match a key, the last one counts. Nothing here knows any key by name.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from dreamerv2.common.errors import UserError
from dreamerv2.common.showing import brief, show

__all__ = ["Field", "Rule", "Schema", "show"]


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError


def _to_int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (str, numbers.Real)):
        raise ValueError
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value.strip()):
        return int(value)
    number = _to_float(value)
    if not number.is_integer():
        raise ValueError
    return int(number)


def _to_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (str, numbers.Real)):
        raise ValueError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _to_str(value: Any) -> str:
    text = os.fspath(value)
    if not isinstance(text, str) or len(text) > _LONGEST_TEXT:
        raise ValueError
    return str(text)


def _to_regex(value: Any) -> str:
    text = _to_str(value)
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError from error
    return text


_LONGEST_TEXT = 10_000
_LONGEST_LIST = 1_000

_CONVERT: dict[str, Callable[[Any], Any]] = {
    "bool": _to_bool,
    "int": _to_int,
    "float": _to_float,
    "str": _to_str,
    "regex": _to_regex,
}
_NOUNS = {
    "bool": ("True or False", "True or False"),
    "int": ("an integer", "integers"),
    "float": ("a number", "numbers"),
    "str": ("text", "texts"),
    "regex": ("a regular expression", "regular expressions"),
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """What is declared about the keys that match one pattern; every part is optional.

    Attributes:
      type: bool, int, float, str or regex, where the default does not tell it.
      choices: The only values allowed; they may be of different types.
      also: Values allowed besides those of the type, such as False.
      also_text: Patterns of texts allowed besides, each with what to call it in messages.
      aliases: Other spellings of a value.
      min: Smallest number allowed.
      above: Number that must be exceeded.
      max: Largest number allowed.
      items: Fewest and most elements of a list.
    """

    type: str = ""
    choices: tuple[Any, ...] = ()
    also: tuple[Any, ...] = ()
    also_text: tuple[tuple[str, str], ...] = ()
    aliases: tuple[tuple[str, Any], ...] = ()
    min: float | None = None
    above: float | None = None
    max: float | None = None
    items: tuple[int, int] | None = None

    @classmethod
    def parse(cls, pattern: str, spec: Any) -> Rule:
        """Reads a rule from its mapping; raises UserError if it says something unknown."""
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(spec, Mapping) or not known.issuperset(spec):
            raise UserError(
                f"the rule {pattern!r} must map some of {', '.join(sorted(known))}, not {spec!r}"
            )
        values: dict[str, Any] = {}
        for name, value in spec.items():
            if name in ("choices", "also", "items"):
                value = tuple(value)
            elif name in ("also_text", "aliases"):
                value = tuple((str(key), item) for key, item in value.items())
            values[name] = value
        if values.get("type", "int") not in _CONVERT:
            raise UserError(
                f"the rule {pattern!r} has the type {values['type']!r}, which must be "
                f"one of {', '.join(_CONVERT)}"
            )
        return cls(**values)


@dataclasses.dataclass(frozen=True)
class Field:
    """One key's declared type, limits and default; converts values or explains why it can't."""

    key: str
    type: str
    is_list: bool
    default: Any
    rule: Rule

    def convert(self, value: Any) -> Any:
        """Returns the value in this field's type, lists as tuples; raises UserError otherwise."""
        try:
            if not self.is_list:
                return self._element(value)
            if isinstance(value, str):
                text = value.strip()
                text = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text
                value = [part.strip() for part in text.split(",")] if text.strip() else []
            if not isinstance(value, (list, tuple)):
                value = [value]
            if len(value) > _LONGEST_LIST:
                raise ValueError
            low, high = self.rule.items or (0, math.inf)
            if not low <= len(value) <= high:
                raise ValueError
            return tuple(self._element(item) for item in value)
        except (ValueError, TypeError, OverflowError):
            raise UserError(
                f"{self.key} must be {self.expected}, not {brief(value)}; "
                f"for example {show(self.default)}"
            ) from None

    def _element(self, value: Any) -> Any:
        # Anything else could be so large that its text fills the memory.
        if not isinstance(value, (str, numbers.Real, os.PathLike)):
            raise ValueError
        for spelling, meaning in self.rule.aliases:
            if str(value).lower() == spelling.lower():
                return meaning
        for option in self.rule.choices + self.rule.also:
            try:
                converted = _CONVERT[type(option).__name__](value)
            except ValueError:
                continue
            if converted == option:
                return option
        if self.rule.choices:
            raise ValueError
        if isinstance(value, str):
            for pattern, _ in self.rule.also_text:
                if re.fullmatch(pattern, value):
                    return value
        converted = _CONVERT[self.type](value)
        low, above, high = self.rule.min, self.rule.above, self.rule.max
        if low is not None and converted < low:
            raise ValueError
        if high is not None and converted > high:
            raise ValueError
        if above is not None and converted <= above:
            raise ValueError
        return converted

    @property
    def expected(self) -> str:
        """What the value must be, in words that follow 'must be'."""
        rule = self.rule
        if rule.choices:
            parts = ["one of " + ", ".join(show(choice) for choice in rule.choices)]
        else:
            limits = [
                f"{sign} {show(limit)}"
                for sign, limit in ((">=", rule.min), (">", rule.above), ("<=", rule.max))
                if limit is not None
            ]
            noun = _NOUNS[self.type][self.is_list]
            parts = [f"{noun} {' and '.join(limits)}".rstrip()]
        parts += [show(option) for option in rule.also] + [name for _, name in rule.also_text]
        text = " or ".join(parts)
        if not self.is_list:
            return text
        low, high = rule.items or (0, 0)
        count = f"{low} " if low == high else f"{low} to {high} "
        return f"a list of {count if rule.items else ''}{text}"


class Schema:
    """The rules for keys, and hints for keys that are gone.

    Args:
      rules: Regular expression over whole keys -> the mapping of a `Rule`.
      gone: Regular expression over whole keys that no longer exist -> what to do instead.
    """

    def __init__(
        self, rules: Mapping[str, Any] | None = None, gone: Mapping[str, str] | None = None
    ) -> None:
        self.rules = {str(key): Rule.parse(str(key), spec) for key, spec in (rules or {}).items()}
        self.gone = {str(key): str(hint) for key, hint in (gone or {}).items()}
        for pattern in (*self.rules, *self.gone):
            try:
                re.compile(pattern)
            except re.error as error:
                raise UserError(f"the rule {pattern!r} is no regular expression: {error}") from None

    def field(self, key: str, default: Any) -> Field:
        """Returns the field of a key, its type taken from the rules and then from the default.

        Raises:
          UserError: If the default is of no type that a configuration holds.
        """
        rule = Rule()
        for pattern, candidate in self.rules.items():
            if re.fullmatch(pattern, key):
                rule = candidate
        is_list = isinstance(default, (list, tuple))
        sample = default[0] if is_list and default else "" if is_list else default
        name = rule.type
        for kind in (bool, int, float, str):
            if not name and isinstance(sample, kind):
                name = kind.__name__
        if not name:
            raise UserError(
                f"{key} is {default!r}, but a value must be a bool, int, float, str or "
                f"a list of these"
            )
        return Field(key, name, is_list, default, rule)

    def hint(self, key: str) -> str:
        """Returns what to do about a key that is gone, or an empty text."""
        for pattern, hint in self.gone.items():
            if re.fullmatch(pattern, key):
                return hint
        return ""
