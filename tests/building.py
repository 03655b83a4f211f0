"""Builds what is distributed from a copy of the sources, offline, with the installed setuptools."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(*command: object, cwd: os.PathLike[str] | str, **kwargs: object) -> str:
    """The standard output of a command that has to succeed."""
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, **kwargs
    )  # type: ignore[call-overload]
    assert result.returncode == 0, result.stdout + result.stderr
    return str(result.stdout)


def copy_sources(folder: pathlib.Path) -> pathlib.Path:
    """Copy what the repository tracks, with its symbolic links and without build products."""
    ignored = shutil.ignore_patterns(
        ".*", "__pycache__", "*.egg-info", "build", "dist", "logdir", "golden", "site"
    )
    shutil.copytree(ROOT, folder, symlinks=True, ignore=ignored)
    return folder


def build_wheel(source: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Build the wheel of a source folder into another folder."""
    script = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    run(sys.executable, "-c", script, folder, cwd=source)
    (path,) = folder.glob("*.whl")
    return path


def build_sdist(source: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Build the source distribution of a source folder into another folder."""
    run(sys.executable, "setup.py", "-q", "sdist", "--dist-dir", folder, cwd=source)
    (path,) = folder.glob("*.tar.gz")
    return path


def unpack(sdist: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Unpack a source distribution and return the folder that it holds."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (path,) = folder.iterdir()
    return path
