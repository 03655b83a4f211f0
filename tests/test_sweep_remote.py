"""What machines find out about themselves and the shared storage before a sweep starts."""

from __future__ import annotations

import errno
import os
import pathlib
from typing import Any

import pytest

import dreamerv2
from dreamerv2.sweeps import remote

ROOT = pathlib.Path(dreamerv2.__file__).parent
VERSION = dreamerv2.__version__


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / ".sweep").mkdir()
    (tmp_path / ".sweep" / "token").touch()
    return tmp_path


def check(folder: pathlib.Path, root: pathlib.Path = ROOT, version: str = VERSION) -> str:
    return remote.check(str(root), version, str(folder), "token")


def test_good_storage_is_left_as_it_was(folder: pathlib.Path) -> None:
    assert check(folder) == ""
    assert [path.name for path in (folder / ".sweep").iterdir()] == ["token"]


def test_other_version_or_storage(folder: pathlib.Path) -> None:
    assert "this machine 0.0.1; install the same version" in check(folder, version="0.0.1")
    assert "mount the same storage" in check(folder / "elsewhere")


def test_installed_package_is_used_where_there_is_no_checkout(folder: pathlib.Path) -> None:
    assert remote.find_package("/nowhere") == ROOT
    assert check(folder, root=pathlib.Path("/nowhere")) == ""


def test_missing_package(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "has no DreamerV2; install it" in check(folder, root=pathlib.Path("/nowhere"))
    with pytest.raises(RuntimeError, match="DreamerV2 is not installed on"):
        remote.keep({}, "/nowhere")


def test_storage_without_what_leases_and_replay_need(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> Any:
        raise OSError(errno.EROFS, "Read-only file system")

    def shared(path: Any, flags: int, original: Any = os.open) -> int:
        return original(path, flags & ~os.O_EXCL)

    for name, replacement, message in [
        ("open", refuse, "cannot write to .* (Read-only file system)"),
        ("open", shared, "cannot create files exclusively"),
        ("pwrite", lambda *args: 0, "cannot change files in place"),
        ("replace", lambda *args: None, "cannot replace files"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(remote.os, name, replacement)
            found = check(folder)
        for part in message.split(".*"):
            assert part in found, found
