"""What Ray runs on the machines; sent to them as it is, so it may use Python's own library only.

The package itself need not be importable there before: a checkout on the shared storage will do.
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import re
import select
import signal
import subprocess
import sys
import time
from typing import Any


def find_package(root: str) -> pathlib.Path | None:
    """Return the folder of the package: the one that the sweep uses, or else an installed one."""
    import importlib.util

    path = pathlib.Path(root)
    if (path / "sweeps" / "keeper.py").is_file():
        return path
    spec = importlib.util.find_spec("dreamerv2")
    return pathlib.Path(spec.origin).parent if spec and spec.origin else None


def keep(job: dict[str, Any], root: str) -> dict[str, Any]:
    """Run a keeper until it ends; asks it to stop when interrupted.

    Args:
        job: Of the keeper; its command begins with the name of a program of the package.
        root: Folder of the package on the machine of the sweep.

    Returns:
        How the attempt ended.

    Raises:
        RuntimeError: The keeper ended without saying how.
    """
    # Where Ray was started in the background of a shell, interrupts would pass by unnoticed.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    package = find_package(root)
    if package is None:
        raise RuntimeError(f"DreamerV2 is not installed on {platform.node()}")
    program, *arguments = job["command"]
    # An absolute path, as tests use, replaces the folder of the package.
    command = [sys.executable, str(package / program), *arguments]
    keeper = subprocess.Popen(
        [sys.executable, str(package / "sweeps" / "keeper.py"), job["logdir"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        bufsize=0,
    )
    assert keeper.stdin is not None and keeper.stdout is not None
    answer = b""
    try:
        keeper.stdin.write(json.dumps({**job, "command": command}).encode() + b"\n")
        while True:
            try:
                # In short pieces: an interrupt is noticed only between them.
                if not select.select([keeper.stdout], [], [], 0.2)[0]:
                    continue
                data = os.read(keeper.stdout.fileno(), 2**16)
                answer += data
                if not data:
                    break
            except KeyboardInterrupt:
                keeper.stdin.close()
    finally:  # This process may go on to serve others.
        keeper.stdin.close()
        keeper.wait()
    if not answer:
        raise RuntimeError(f"the process that keeps the run was killed on {platform.node()}")
    return json.loads(answer)


def check(root: str, version: str, folder: str, token: str) -> str:
    """Say why this machine cannot take part in a sweep; nothing if it can.

    Args:
        root: Folder of the package on the machine of the sweep.
        version: Of that package.
        folder: Of the sweep, on the shared storage.
        token: Name of a file that the sweep put there.
    """
    package = find_package(root)
    if package is None:
        return "has no DreamerV2; install it there, or use a checkout on the shared storage"
    match = re.search(r'__version__ = "([^"]+)"', (package / "__init__.py").read_text())
    if match is None or match.group(1) != version:
        there = match.group(1) if match else "unknown"
        return f"has DreamerV2 {there}, this machine {version}; install the same version"
    path = pathlib.Path(folder)
    name = path / ".sweep" / f"{token}-{os.getpid()}"
    deadline = time.monotonic() + 70.0  # What NFS may take to show new files.
    while not (path / ".sweep" / token).exists():
        if time.monotonic() > deadline or not path.exists():
            return f"does not see the files of this machine in {folder}; mount the same storage"
        time.sleep(0.2)
    try:
        return _check_storage(name, folder)
    except OSError as error:
        return f"cannot write to {folder} ({error.strerror}); choose a folder that all can write"
    finally:
        for left in (name, name.with_suffix(".new")):
            left.unlink(missing_ok=True)


def _check_storage(name: pathlib.Path, folder: str) -> str:
    """Try what leases and replay need: exclusive creation, writing inside files, replacing them."""
    lacking = f"uses storage for {folder} that cannot"
    file = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR)
    try:
        os.pwrite(file, b"before", 0)
        os.pwrite(file, b"A", 3)
        os.fsync(file)
        if name.read_bytes() != b"befAre":
            return f"{lacking} change files in place; use a shared file system"
    finally:
        os.close(file)
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR))
        return f"{lacking} create files exclusively; use a shared file system"
    except FileExistsError:
        pass
    name.with_suffix(".new").write_bytes(b"after")
    os.replace(name.with_suffix(".new"), name)
    if name.read_bytes() != b"after":
        return f"{lacking} replace files; use a shared file system"
    return ""
