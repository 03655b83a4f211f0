"""Finds the tasks of dm_control by name: the suite, manipulation and locomotion.

Cameras among the observations are left out, because the image of any camera of a task can be chosen
instead, and because it takes a graphics library to build an environment that has them.
"""

from __future__ import annotations

import difflib
import importlib.util
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from dreamerv2.common.envs import extras
from dreamerv2.common.errors import UserError

LOCOMOTION = ("basic_rodent_2020", "basic_cmu_2019")

# Of a manipulation episode, in seconds, as in the library.
TIME_LIMIT = 10.0


def find(name: str, task: str, image: bool) -> Callable[[], Any]:
    """Make a function that loads a task; its random numbers are those of the seed 0.

    Args:
      name: `<domain>_<task>`, `manip_<task>` or `locom_<task>`.
      task: Full task name, for the errors.
      image: Whether images will say where things are.

    Raises:
      UserError: If there is no such task, with the names that are near or all of them.
    """
    prefix, _, rest = name.partition("_")
    if prefix == "manip":
        return _manipulation(rest, task, image)
    if prefix == "locom":
        return _locomotion(rest, task)
    return _suite(name, task)


def _suite(name: str, task: str) -> Callable[[], Any]:
    suite = extras.require("dm_control.suite", "dmc", task)
    known = {f"{domain}_{level}".lower(): (domain, level) for domain, level in suite.ALL_TASKS}
    known["cup_catch"] = ("ball_in_cup", "catch")  # As published scores call it.
    if name.lower() not in known:
        domains = [d for d in suite.TASKS_BY_DOMAIN if f"{name}_".startswith(f"{d}_")]
        if domains:
            domain = max(domains, key=len)
            mend = f"the domain {domain} has the tasks {', '.join(suite.TASKS_BY_DOMAIN[domain])}"
        else:
            mend = _near(name, list(known), "dmc_") or (
                f"the domains are {', '.join(suite.TASKS_BY_DOMAIN)}, besides manip and locom"
            )
        raise UserError(f"the task {task!r} is not in the control suite: {mend}")
    domain, level = known[name.lower()]

    def load() -> Any:
        # No module is kept for this: worker processes must decide themselves when to import it.
        suite = extras.require("dm_control.suite", "dmc", task)
        # A few domains draw the model itself from these numbers: it is the same one in every run.
        return suite.load(domain, level, task_kwargs={"random": 0})

    return load


def _manipulation(name: str, task: str, image: bool) -> Callable[[], Any]:
    names = extras.require("dm_control.manipulation", "dmc", task).ALL
    # The vision variants observe everything but the objects, which images show.
    suffixes = ("", "_vision", "_features") if image else ("", "_features", "_vision")
    found = [name + suffix for suffix in suffixes if name + suffix in names]
    if not found:
        known = list(dict.fromkeys(full.rsplit("_", 1)[0] for full in names))
        mend = _near(name, known, "dmc_manip_") or f"its tasks are {', '.join(known)}"
        raise UserError(f"the task {task!r} is not among the manipulation tasks: {mend}")

    def load() -> Any:
        extras.require("dm_control.manipulation", "dmc", task)  # Fills the registry.
        registry = extras.require("dm_control.manipulation.shared.registry", "dmc", task)
        return _compose(task, task=registry.get_constructor(found[0])(), time_limit=TIME_LIMIT)

    return load


def _locomotion(name: str, task: str) -> Callable[[], Any]:
    modules = {module: _examples(module, task) for module in LOCOMOTION}
    known = {
        key: module
        for module, examples in modules.items()
        for key, value in vars(examples).items()
        if getattr(value, "__module__", "") == examples.__name__
    }
    if name not in known:
        mend = _near(name, list(known), "dmc_locom_") or f"its tasks are {', '.join(known)}"
        raise UserError(f"the task {task!r} is not among the locomotion tasks: {mend}")

    def load() -> Any:
        return _compose(task, **getattr(_examples(known[name], task), name)())

    return load


def _examples(module: str, task: str) -> Any:
    """A copy of a module of example tasks whose functions return how an environment is made.

    They would return the environment, but making it renders what its cameras see.
    """
    package = extras.require("dm_control.locomotion.examples", "dmc", task)
    spec: Any = importlib.util.find_spec(f"{package.__name__}.{module}")
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    copy.__dict__["composer"] = types.SimpleNamespace(Environment=dict)
    return copy


def _compose(name: str, /, **arguments: Any) -> Any:
    composer = extras.require("dm_control.composer", "dmc", name)
    kinds = extras.require("dm_control.composer.observation.observable", "dmc", name)
    for observable in arguments["task"].observables.values():
        if isinstance(observable, (kinds.MJCFCamera, kinds.MujocoCamera)):
            observable.enabled = False
    arguments.update(random_state=np.random.RandomState(0), strip_singleton_obs_buffer_dim=True)
    return composer.Environment(**arguments)


def _near(name: str, known: list[str], prefix: str) -> str:
    near = difflib.get_close_matches(name.lower(), known, 3, 0.6)
    return f"did you mean {' or '.join(prefix + key for key in near)}?" if near else ""
