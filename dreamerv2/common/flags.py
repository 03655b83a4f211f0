"""Configurations from a YAML document, the command line, or both.

A document has a section `defaults` with every key, each explained by the comment at the end of its
line; optional sections `rules` and `gone` (see `dreamerv2.common.schema`); every other section is a
named configuration: an overlay whose keys may be nested, dotted or regular expressions, explained
by the comment above it.

    defaults:
      steps: 1e6     # Length of the run.
      model:
        units: 400   # Units of each layer.

    # Runs within seconds.
    debug:
      model.units: 16

`parse` turns a command line over such a document into a `Config`, `build` does it from Python.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dreamerv2.common.config import Config, Values
from dreamerv2.common.errors import UserError
from dreamerv2.common.files import read_text
from dreamerv2.common.schema import Schema, show
from dreamerv2.common.yaml_text import parse_yaml


@dataclasses.dataclass(frozen=True)
class Document:
    """A YAML document of defaults and named configurations.

    Attributes:
      defaults: Every key with its default, its type and its limits.
      overlays: Named configurations: name -> what it changes, not yet checked.
      about: Name of an overlay -> the comment above it.
      help: Dotted key -> the comment at the end of its line.
      headings: Dotted key -> the comment above it, which starts a group of keys.
    """

    defaults: Config
    overlays: Mapping[str, Mapping[str, Any]]
    about: Mapping[str, str]
    help: Mapping[str, str]
    headings: Mapping[str, str]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Document:
        """Reads a document from a file; raises UserError as `from_text` does."""
        return cls.from_text(read_text(path), os.fspath(path))

    @classmethod
    def from_text(cls, text: str, name: str = "the configuration") -> Document:
        """Reads a document from a text.

        Args:
          text: The YAML.
          name: What to call it in messages.

        Raises:
          UserError: If the text is malformed, or its defaults break its own rules.
        """
        tree = parse_yaml(text, "rt", name)
        lines = text.splitlines()
        sections = _plain(tree)
        for key, section in sections.items():
            if not isinstance(key, str) or not isinstance(section, dict):
                raise UserError(f"{name} has the section {key!r}, which must be a mapping")
        if "defaults" not in sections:
            raise UserError(f"{name} must have a section 'defaults'")
        special = ("defaults", "rules", "gone")
        schema = Schema(sections.get("rules"), sections.get("gone"))
        defaults = Config(sections["defaults"], schema)
        if taken := {"configs", "help"} & set(defaults):
            raise UserError(f"{name} can't have a key {taken.pop()!r}, which is a flag already")
        for pattern in schema.rules:
            if not any(re.fullmatch(pattern, key) for key in defaults.flat):
                raise UserError(f"{name} has the rule {pattern!r}, which matches no key")
        overlays = {key: value for key, value in sections.items() if key not in special}
        about = {key: _above(lines, tree, key) for key in overlays}
        texts: dict[str, str] = {}
        headings: dict[str, str] = {}
        _comments(lines, tree["defaults"], "", texts, headings)
        return cls(defaults, overlays, about, texts, headings)


def build(
    source: Document | str | os.PathLike[str], names: Iterable[str] = (), overrides: Values = ()
) -> Config:
    """Returns the defaults changed by named configurations and then by overrides.

    Args:
      source: A document, or the path of one.
      names: Named configurations in the order of application; `defaults` starts over.
      overrides: What `Config.update` takes.

    Raises:
      UserError: If a name, a key or a value is wrong.
    """
    document = source if isinstance(source, Document) else Document.read(source)
    config = document.defaults
    for name in names:
        if name == "defaults":
            config = document.defaults
            continue
        if name not in document.overlays:
            near = difflib.get_close_matches(name, document.overlays, n=1, cutoff=0.0)
            raise UserError(
                f"unknown configuration {name!r}; "
                + (
                    f"the nearest of {', '.join(document.overlays)} is {near[0]}"
                    if near
                    else "there are none besides defaults"
                )
            )
        try:
            config = config.update(document.overlays[name])
        except UserError as error:
            raise UserError(f"in the configuration {name!r}, {error}") from None
    return config.update(overrides)


def parse(
    source: Document | str | os.PathLike[str],
    argv: Sequence[str] | None = None,
    *,
    program: str,
    about: str = "",
    example: str = "",
) -> Config:
    """Returns the configuration that a command line asks for.

    Args:
      source: A document, or the path of one.
      argv: The arguments after the program's name; by default those of this process.
      program: How the program is started, for the usage line.
      about: One sentence on what the program does.
      example: Arguments of an example for the usage.

    Raises:
      UserError: If an argument, a key or a value is wrong.
      SystemExit: With status 0 after the usage is printed for `--help` or `-h`.
    """
    document = source if isinstance(source, Document) else Document.read(source)
    names, overrides = split(sys.argv[1:] if argv is None else argv)
    if ("help", []) in overrides:
        print(usage(document, program=program, about=about, example=example))
        raise SystemExit(0)
    return build(document, names, overrides)


def split(argv: Sequence[str]) -> tuple[list[str], list[tuple[str, Any]]]:
    """Splits arguments into the names after `--configs` and (key, value) pairs, in order.

    Values stay text, which `Config.update` converts; several values make a list of texts. `--help`
    and `-h` give the pair `("help", [])`.

    Raises:
      UserError: If an argument has no flag, or a flag no value.
    """
    flags: list[tuple[str, list[str]]] = []
    open_ended = False  # Whether values may still follow: not after --key=value or --help.
    for token in argv:
        if token in ("-h", "--help"):
            flags.append(("help", []))
            open_ended = False
        elif token.startswith("--"):
            key, equals, value = token[2:].partition("=")
            if not key:
                raise UserError(f"the argument {token!r} names no key; write --key value")
            flags.append((key, [value] if equals else []))
            open_ended = not equals
        elif re.match(r"-[^\d.]", token):
            raise UserError(
                f"the argument {token!r} is no flag; flags start with two dashes, and "
                f"values that start with one are written --key=value"
            )
        elif not open_ended:
            raise UserError(f"the argument {token!r} belongs to no flag; write --key {token}")
        else:
            flags[-1][1].append(token)
    names: list[str] = []
    overrides: list[tuple[str, Any]] = []
    for key, values in flags:
        if key == "help" and not values:
            overrides.append((key, []))
        elif not values or not all(value.strip() for value in values):
            what = "needs a value" if not values else "has an empty value"
            raise UserError(f"the flag --{key} {what}; write --{key} value, or leave it out")
        elif key == "configs":
            names += [part for value in values for part in value.split(",") if part]
        elif len(values) == 1 or values[0].startswith("["):
            overrides.append((key, " ".join(values)))
        else:
            overrides.append((key, [part for value in values for part in value.split(",") if part]))
    return names, overrides


def usage(
    document: Document,
    *,
    program: str,
    about: str = "",
    example: str = "",
    width: int | None = None,
) -> str:
    """Returns the text of `--help`: usage, named configurations, and every key.

    Args:
      document: What to explain.
      program: How the program is started.
      about: One sentence on what the program does.
      example: Arguments of an example.
      width: Characters per line, from 60 to 140; by default those of the terminal, or 100.
    """
    width = max(60, min(width or shutil.get_terminal_size((100, 24)).columns, 140))
    configs = "[--configs NAME ...] " if document.overlays else ""
    lines = [f"usage: {program} {configs}[--KEY VALUE ...]", ""]
    lines += [*textwrap.wrap(about, width), ""] if about else []
    lines += [f"example: {program} {example}", ""] if example else []
    lines += textwrap.wrap(
        "Flags apply in order, after the named configurations. Write lists as --key 64 64 or "
        "--key 64,64. A key may be a regular expression over whole keys: --'.*\\.norm' layer.",
        width,
    )
    if document.overlays:
        lines += ["", "Named configurations, applied in the order given:"]
        lines += _table([(name, "", document.about[name]) for name in document.overlays], width)
    lines += ["", "Keys, their defaults and their meaning:"]
    rows = [
        (key, show(value), document.help.get(key, ""))
        for key, value in document.defaults.flat.items()
    ]
    for row, line in zip(rows, _table(rows, width), strict=True):
        if row[0] in document.headings:
            lines += ["", document.headings[row[0]]]
        lines.append(line)
    return "\n".join(lines)


def _table(rows: Sequence[tuple[str, str, str]], width: int) -> list[str]:
    """Aligns names, values and wrapped explanations; one entry a row, with line breaks inside."""
    first = max((len(row[0]) for row in rows), default=0)
    second = min(max((len(row[1]) for row in rows), default=0), 12)
    indent = first + second + (6 if second else 4)
    entries = []
    for name, value, text in rows:
        start = f"  {name:<{first}}  " + (f"{value:<{second}}  " if second else "")
        if width - indent < 30:  # Too narrow for columns: explanations go below.
            body = textwrap.wrap(text, width - 6, break_on_hyphens=False)
            entry = [start.rstrip(), *(" " * 6 + line for line in body)]
        else:
            body = textwrap.wrap(text, width - indent, break_on_hyphens=False) or [""]
            if len(start) > indent:  # The value is longer than its column.
                body = ["", *body]
            entry = [(start + body[0]).rstrip(), *(" " * indent + line for line in body[1:])]
        entries.append("\n".join(entry))
    return entries


def _plain(value: Any) -> Any:
    """Turns what the round-trip reader returns into plain Python values."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _above(lines: Sequence[str], tree: Any, key: str) -> str:
    """Returns the comment directly above a key, joined into one line."""
    row = tree.lc.key(key)[0] - 1
    found: list[str] = []
    while row >= 0 and lines[row].lstrip().startswith("#"):
        found.insert(0, lines[row].strip().lstrip("# "))
        row -= 1
    return " ".join(found)


def _comments(
    lines: Sequence[str], tree: Any, prefix: str, texts: dict[str, str], headings: dict[str, str]
) -> None:
    """Collects the comments at the end of lines and above keys, by dotted key."""
    for key, value in tree.items():
        if heading := _above(lines, tree, key):
            leaf = key
            node = value
            while isinstance(node, Mapping):
                inner = next(iter(node))
                leaf, node = f"{leaf}.{inner}", node[inner]
            headings[prefix + leaf] = heading
        if isinstance(value, Mapping):
            _comments(lines, value, f"{prefix}{key}.", texts, headings)
        elif (tokens := tree.ca.items.get(key)) and tokens[2]:
            texts[prefix + key] = tokens[2].value.partition("\n")[0].strip().lstrip("# ")
