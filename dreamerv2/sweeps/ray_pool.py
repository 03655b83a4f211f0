"""Runs keepers on the machines of a Ray cluster; the only module that needs Ray."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import re
import socket
import uuid
from collections.abc import Mapping
from typing import Any

import dreamerv2
from dreamerv2.common.errors import UserError
from dreamerv2.sweeps import files, remote
from dreamerv2.sweeps.driver import Ended

INSTALL = "python -m pip install 'ray>=2.40'"

# Seconds until a machine counts as not there, and until all have tried the storage.
_CONNECT = 10.0
_CHECK = 180.0
_OBJECTS = 100 * 2**20


def check_address(address: str | None) -> None:
    """Refuse what cannot be reached, as far as that is known without Ray's own patience.

    Args:
        address: "auto", host:port, or None for this machine alone.

    Raises:
        UserError: Ray is not installed, or nothing listens at the address.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError(f"sweeps run on Ray, which is not installed: run {INSTALL}")
    if address in (None, "auto"):
        return
    match = re.fullmatch(r"\[?([^/\[\]]+)\]?:(\d{1,5})", str(address))
    if not match:
        raise UserError(
            f"--address is {address!r}; use auto on a machine of the cluster, or the host:port "
            "that 'ray start --head' printed"
        )
    try:
        socket.create_connection((match[1], int(match[2])), _CONNECT).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--address {address} cannot be reached ({reason}); start Ray there with "
            "'ray start --head', or leave --address out to use this machine alone"
        ) from None


class RayPool:
    """A connection to a Ray cluster, as a context manager.

    Args:
        address: "auto", host:port, or None to start Ray on this machine alone.
        gpus: Of each run; None for one where there are any.
        cpus: Cores of each run.

    Raises:
        UserError: There is no cluster, or no machine of it is large enough for one run.
    """

    def __init__(self, address: str | None, gpus: float | None = None, cpus: float = 1.0) -> None:
        for flag, share in (("gpus", gpus or 0.0), ("cpus", cpus)):
            if share > 1 and share % 1:
                raise UserError(
                    f"--{flag}-per-run is {share:g}; use a whole number, or a fraction below 1"
                )
        check_address(address)
        import ray

        self._ray: Any = ray
        self._root = str(pathlib.Path(dreamerv2.__file__).resolve().parent)
        self._tasks: dict[Any, str] = {}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        options: dict[str, Any] = {"address": address}
        if address is None:
            options = {
                "address": "local", "include_dashboard": False, "object_store_memory": _OBJECTS,
            }  # fmt: skip
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", **options)
        except Exception as error:  # Of many kinds, by what is at the address.
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            where = "Ray on this machine" if address is None else f"--address {address}"
            raise UserError(
                f"{where} cannot be used ({reason}); see that 'ray status' works there, with the "
                "same versions of Ray and Python as here"
            ) from None
        # What is sent to machines goes as it is, since the package may be elsewhere there.
        ray.cloudpickle.register_pickle_by_value(remote)
        found = max((node["Resources"].get("GPU", 0.0) for node in self._nodes()), default=0.0)
        self.gpus = (1.0 if found >= 1 else 0.0) if gpus is None else gpus
        self.cpus = cpus
        try:
            self._check_size()
        except UserError:
            ray.shutdown()
            raise
        self._keep = ray.remote(max_retries=0)(remote.keep)

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _check_size(self) -> None:
        if not self.gpus and not self.cpus:
            raise UserError("--cpus-per-run is 0, and a run has no GPU either; use 1 or more")
        for name, what, needed in (("GPU", "GPUs", self.gpus), ("CPU", "cores", self.cpus)):
            most = max((node["Resources"].get(name, 0.0) for node in self._nodes()), default=0.0)
            if most < needed:
                raise UserError(
                    f"--{what.lower().replace('cores', 'cpus')}-per-run is {needed:g}, but the "
                    f"largest machine of the cluster has {most:g} {what}; ask for fewer, or add a "
                    "larger machine"
                )

    def check_storage(self, folder: pathlib.Path) -> None:
        """Let every machine see and change files in the folder of the sweep.

        Raises:
            UserError: A machine cannot.
        """
        ray, token = self._ray, f"check-{uuid.uuid4().hex}"
        marker = folder / files.FOLDER / token
        try:
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.write_text("")
        except OSError as error:
            raise UserError(
                f"--logdir {str(folder)!r} cannot be written ({error.strerror}); choose a folder "
                "on storage that all machines share"
            ) from None
        check = ray.remote(num_cpus=0, max_retries=0)(remote.check)
        try:
            tasks = {}
            for node in self._nodes():
                place = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                    node["NodeID"], soft=False
                )
                tasks[
                    check.options(scheduling_strategy=place).remote(
                        self._root, dreamerv2.__version__, str(folder), token
                    )
                ] = node["NodeManagerHostname"]
            ready, late = ray.wait(list(tasks), num_returns=len(tasks), timeout=_CHECK)
            problems = {tasks[task]: self._answer(task) for task in ready}
            problems.update({tasks[task]: f"did not answer for {_CHECK:g} s" for task in late})
            for host, problem in problems.items():
                if problem:
                    raise UserError(f"the machine {host} {problem}")
        finally:
            marker.unlink(missing_ok=True)

    def _answer(self, task: Any) -> str:
        try:
            return self._ray.get(task)
        except Exception as error:  # Whatever the machine raised, or that it ended.
            return f"cannot run tasks ({_summary(error)})"

    def slots(self) -> int:
        """Return how many runs fit on the machines that there are now."""
        total = 0
        for node in self._nodes():
            have = node["Resources"]
            fits = [
                int(have.get(name, 0.0) / needed + 1e-6)
                for name, needed in (("GPU", self.gpus), ("CPU", self.cpus))
                if needed
            ]
            total += min(fits)
        return total

    def submit(self, job: Mapping[str, Any], name: str) -> None:
        """Start a keeper as soon as there is room."""
        task = self._keep.options(
            num_gpus=self.gpus, num_cpus=self.cpus, name=name, scheduling_strategy="SPREAD"
        ).remote(dict(job), self._root)
        self._tasks[task] = job["attempt"]

    def poll(self) -> list[Ended]:
        """Return the attempts that ended since the last call."""
        if not self._tasks:
            return []
        ready, _ = self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0)
        result = []
        for task in ready:
            attempt = self._tasks.pop(task)
            try:
                result.append(Ended(attempt, self._ray.get(task)))
            except Exception as error:  # The node, the worker process or the keeper ended.
                result.append(Ended(attempt, None, _summary(error)))
        return result

    def cancel(self, attempt: str) -> None:
        """Ask a keeper to stop; its end comes later, from `poll`."""
        for task, name in self._tasks.items():
            if name == attempt:
                self._ray.cancel(task, force=False)

    def __enter__(self) -> RayPool:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the cluster; trainings that still run save and end."""
        with contextlib.suppress(Exception):  # A cluster that is gone needs no goodbye.
            self._ray.shutdown()


def _summary(error: BaseException) -> str:
    """The first sentence of an error of Ray, without advice and the stack of the other machine."""
    cause = getattr(error, "cause", None)
    text = str(cause if isinstance(cause, BaseException) else error).strip()
    sentence = re.split(r"\. |\n", text, maxsplit=1)[0]
    return f"{type(cause or error).__name__}: {sentence}"[:300]
