"""Finds a way to render MuJoCo's scenes without a screen.

Two libraries can do it: EGL, on the GPU or by Mesa on the CPU, and OSMesa, on the CPU. dm_control
decides between them when it is imported, by the environment variable `MUJOCO_GL`. A value that the
user has set is kept; otherwise the first that works is written there, where worker processes find
it. Each is tried in a process of its own, because a library that failed to load leaves traces.

Mesa and TensorFlow each bring their own LLVM and crash in the same process, whichever comes first.
Therefore only worker processes render, and dm_control is imported with rendering switched off.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator

from dreamerv2.common.errors import UserError

BACKENDS = ("egl", "osmesa")
OFF = "off"

INSTALL = "apt-get install libegl1 libgl1"

_TRIAL = """
from dm_control import mujoco
scene = "<mujoco><worldbody><camera/></worldbody></mujoco>"
mujoco.Physics.from_xml_string(scene).render(8, 8, camera_id=0)
"""


def choose(task: str) -> None:
    """Set `MUJOCO_GL` to what works, or make sure that its value does.

    Args:
      task: Task name, for the errors.

    Raises:
      UserError: If nothing works, or the value does not.
    """
    stated = os.environ.get("MUJOCO_GL")
    if stated is not None:
        if not works(stated):
            raise UserError(
                f"the task {task!r} renders images, but MUJOCO_GL={stated} does not work on this "
                "machine: unset it to let EGL or OSMesa be found, or set dmc_image to False to "
                "observe the state only"
            )
        return
    for name in BACKENDS:
        if works(name):
            os.environ["MUJOCO_GL"] = name
            return
    raise UserError(
        f"the task {task!r} renders images, for which neither EGL nor OSMesa works on this "
        f"machine: run {INSTALL} (on Debian and Ubuntu), or set dmc_image to False to observe the "
        "state only"
    )


@functools.cache
def works(name: str) -> bool:
    """Whether an image can be rendered on this machine with this value of `MUJOCO_GL`."""
    env = {key: value for key, value in os.environ.items() if key != "PYOPENGL_PLATFORM"}
    trial = subprocess.run(
        [sys.executable, "-c", _TRIAL],
        env={**env, "MUJOCO_GL": name},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )
    return trial.returncode == 0


def switch_on(task: str) -> None:
    """Let dm_control render in this process, although it was imported with rendering off.

    Args:
      task: Task name, for the error.

    Raises:
      RuntimeError: If TensorFlow is in this process.
    """
    library = importlib.import_module("dm_control._render")
    if library.BACKEND not in (None, OFF):
        return
    if "tensorflow" in sys.modules:
        raise RuntimeError(
            f"the task {task!r} cannot render images in a process that has imported TensorFlow: "
            "make it with dreamerv2.common.envs.make, which starts another process, and import "
            "TensorFlow below `if __name__ == '__main__':`, because that process imports the script"
        )
    importlib.reload(library)


@contextlib.contextmanager
def switched_off() -> Iterator[None]:
    """Import dm_control in this context to leave graphics libraries alone."""
    stated = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = OFF
    try:
        yield
    finally:
        if stated is None:
            del os.environ["MUJOCO_GL"]
        else:
            os.environ["MUJOCO_GL"] = stated
