"""An immutable, typed configuration: nested names, each with a value of a known type."""

from __future__ import annotations

import difflib
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import ruamel.yaml
import ruamel.yaml.scalarstring

from dreamerv2.common.errors import UserError
from dreamerv2.common.files import read_text
from dreamerv2.common.schema import Field, Schema, show
from dreamerv2.common.yaml_text import parse_yaml

_DEEPEST = 20

Values = Mapping[str, Any] | Iterable[tuple[str, Any]]


class Config(Mapping[str, Any]):
    """Nested settings that never change: `update` returns a new configuration.

    Values are bool, int, float, str or tuples of these; each keeps the type that its default and
    the schema gave it. A value is reached as `config.rssm.deter`, `config["rssm"]["deter"]` or
    `config["rssm.deter"]`; `config.rssm` is itself a configuration.

    Args:
      values: The defaults: a mapping that is nested, or flat with dots, or both.
      schema: Types and limits beyond the types of the defaults.

    Raises:
      UserError: If a key or a value can't be part of a configuration.
    """

    __slots__ = ("_fields", "_flat", "_prefix", "_schema", "_tree")
    _fields: dict[str, Field]
    _flat: dict[str, Any]
    _prefix: str
    _schema: Schema
    _tree: dict[str, Any]

    def __init__(self, values: Mapping[str, Any], schema: Schema | None = None) -> None:
        schema = schema or Schema()
        fields: dict[str, Field] = {}
        for key, value in _pairs(values):
            for part in key.split("."):
                if not part.isidentifier() or part.startswith("_") or hasattr(Config, part):
                    raise UserError(
                        f"the key {key!r} can't be used because {part!r} is no plain "
                        f"name or has a meaning already; rename it"
                    )
            fields[key] = schema.field(key, value)
        self._fill(
            {key: field.convert(field.default) for key, field in fields.items()}, fields, "", schema
        )

    def _fill(
        self, flat: dict[str, Any], fields: dict[str, Field], prefix: str, schema: Schema
    ) -> Config:
        """Sets everything, once; the keys of `flat` and `fields` carry no prefix."""
        children: dict[str, dict[str, Any]] = {}
        tree: dict[str, Any] = {}
        for key, value in flat.items():
            name, _, rest = key.partition(".")
            if name in tree and bool(rest) != (name in children):
                raise UserError(f"{prefix}{name} is both a value and a section; rename one")
            tree[name] = value
            if rest:
                children.setdefault(name, {})[rest] = value
        for name, child in children.items():
            own = {key: fields[f"{name}.{key}"] for key in child}
            empty: Config = object.__new__(Config)
            tree[name] = empty._fill(child, own, f"{prefix}{name}.", schema)
        for slot, value in (
            ("_flat", flat),
            ("_fields", fields),
            ("_prefix", prefix),
            ("_schema", schema),
            ("_tree", tree),
        ):
            object.__setattr__(self, slot, value)
        return self

    def __getitem__(self, key: str) -> Any:
        node: Any = self
        for part in key.split("."):
            if not isinstance(node, Config) or part not in node._tree:
                raise KeyError(self._unknown(key))
            node = node._tree[part]
        return node

    def __contains__(self, key: object) -> bool:
        text = f"{key}."
        return isinstance(key, str) and any(f"{name}.".startswith(text) for name in self._flat)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._tree:
            raise AttributeError(self._unknown(name))
        return self._tree[name]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a configuration can't change; use update({{{name!r}: ...}})")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a configuration can't change")

    def __iter__(self) -> Iterator[str]:
        return iter(self._tree)

    def __len__(self) -> int:
        return len(self._tree)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._tree]

    def __eq__(self, other: object) -> bool:
        return self._flat == other._flat if isinstance(other, Config) else NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset(self._flat.items()))

    def __repr__(self) -> str:
        return f"Config({self.to_dict()!r})"

    def __str__(self) -> str:
        width = max((len(key) for key in self._flat), default=0)
        return "\n".join(f"{key:<{width}}  {show(value)}" for key, value in self._flat.items())

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._flat, self._fields, self._prefix, self._schema)

    def __copy__(self) -> Config:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Config:
        return self

    @property
    def flat(self) -> dict[str, Any]:
        """A new dict of dotted keys to values, in the order of the defaults."""
        return dict(self._flat)

    def to_dict(self) -> dict[str, Any]:
        """Returns nested dicts, with lists for tuples: what YAML and JSON can hold."""
        return {
            key: value.to_dict()
            if isinstance(value, Config)
            else list(value)
            if isinstance(value, tuple)
            else value
            for key, value in self._tree.items()
        }

    def update(self, values: Values) -> Config:
        """Returns a configuration with some values replaced.

        Args:
          values: A mapping or (key, value) pairs, applied in order, the later winning. A key is
            the dotted name of a value, the name of a section with a mapping, or a regular
            expression that matches the whole dotted name of one or more values. A key made only
            of letters, digits, `_`, `-` and `.` is always a name.

        Raises:
          UserError: If a key matches nothing or a value is not of its key's type.
        """
        flat = dict(self._flat)
        for key, value in _pairs(values):
            for name in self._matches(key):
                flat[name] = self._fields[name].convert(value)
        empty: Config = object.__new__(Config)
        return empty._fill(flat, self._fields, self._prefix, self._schema)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the values as YAML; the file is complete or as before, never half written.

        Args:
          path: The file; its folder must exist.
        """
        path = pathlib.Path(path)
        yaml = ruamel.yaml.YAML()
        yaml.width = 4096
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                yaml.dump(_printable(self.to_dict()), file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str], like: Config | None = None) -> Config:
        """Reads what `save` wrote.

        Args:
          path: The YAML file.
          like: Defaults that give types, limits and the values of keys that the file lacks.
            Without them the types are those of the values in the file.

        Raises:
          UserError: If the file is missing, is no YAML mapping, or does not fit `like`.
        """
        values = parse_yaml(read_text(path), "safe", os.fspath(path))
        if like is None:
            return cls(values)
        try:
            plain = list(_pairs(values))
            for key, _ in plain:  # Patterns are for people; one in a file could take for ever.
                if not re.fullmatch(r"[\w.-]*", key):
                    raise UserError(like._unknown(key))
            return like.update(plain)
        except UserError as error:
            raise UserError(f"in {os.fspath(path)}, {error}") from None

    def _matches(self, key: str) -> list[str]:
        """Returns the dotted names that a key of an update means."""
        if key in self._flat:
            return [key]
        full = self._prefix + key
        if hint := self._schema.hint(full):
            raise UserError(f"{full} is gone: {hint}")
        if key in self:
            example = next(iter(self[key]))
            raise UserError(f"{full} is a section; set its values, such as {full}.{example}")
        names = []
        if not re.fullmatch(r"[\w.-]*", key):
            try:
                names = [name for name in self._flat if re.fullmatch(key, name)]
            except re.error as error:
                raise UserError(
                    f"{key!r} is neither a key nor a regular expression ({error}); correct it"
                ) from None
        if not names:
            raise UserError(self._unknown(key))
        return names

    def _unknown(self, key: str) -> str:
        """Returns the sentence about a key that does not exist."""
        key = key if len(key) <= 100 else key[:97] + "..."
        last = key.rpartition(".")[2]
        near = [name for name in self._flat if name.rpartition(".")[2] == last]
        near += difflib.get_close_matches(key, [*self._flat, *self._tree], n=3, cutoff=0.6)
        near = near or difflib.get_close_matches(key, self._flat, n=2, cutoff=0.0)
        names = list(dict.fromkeys(self._prefix + name for name in near))[:4]
        return f"unknown key {self._prefix + key!r}; the nearest are {', '.join(names) or 'none'}"


def _restore(flat: dict[str, Any], fields: dict[str, Field], prefix: str, schema: Schema) -> Config:
    """Rebuilds a pickled configuration."""
    empty: Config = object.__new__(Config)
    return empty._fill(flat, fields, prefix, schema)


def _pairs(values: Values, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted keys and the values that are no mappings, in order."""
    for key, value in values.items() if isinstance(values, Mapping) else values:
        if not isinstance(key, str):
            raise UserError(f"the key {prefix}{key!r} must be text; quote it")
        nested = isinstance(value, Mapping)
        if nested and prefix.count(".") > _DEEPEST:  # As where an alias leads back to itself.
            raise UserError(f"the key {prefix + key!r:.100} is nested too deeply; flatten it")
        if "|" in key and (prefix or nested):
            key = f"(?:{key})"  # An alternative of parts, not of everything that is joined.
        if nested:
            yield from _pairs(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _printable(value: Any) -> Any:
    """Marks texts for double quotes where YAML's other styles would lose characters."""
    if isinstance(value, dict):
        return {key: _printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, str) and not value.isprintable():
        return ruamel.yaml.scalarstring.DoubleQuotedScalarString(value)
    return value
