"""A configuration key exists only if code reads it."""

from __future__ import annotations

import ast
import pathlib

import dreamerv2
from dreamerv2.common import flags

ROOT = pathlib.Path(dreamerv2.__file__).parent


def names_in(path: pathlib.Path) -> set[str]:
    """Names of attributes and of parameters: sections are passed on as keyword arguments."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    parameters = {node.arg for node in nodes if isinstance(node, ast.arg)}
    constants = {node.value for node in nodes if isinstance(node, ast.Constant)}
    return attributes | parameters | {c for c in constants if isinstance(c, str)}


def test_every_key_is_read_somewhere() -> None:
    known = set().union(*(names_in(path) for path in ROOT.rglob("*.py")))
    keys = flags.build(ROOT / "configs.yaml").flat
    unread = [key for key in keys if not set(key.split(".")) <= known]
    assert not unread
