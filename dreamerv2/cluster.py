"""The machines of one run, as the environment variable TF_CONFIG names them."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from dreamerv2.common.config import Config
from dreamerv2.common.errors import UserError

VARIABLE = "TF_CONFIG"
FOLDER = "workers"

_EXAMPLE = (
    'like {"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+):(\d{1,5})", re.ASCII)
_SHOWN = 60


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a run and which of them this process is.

    Attributes:
        addresses: ``host:port`` of each worker; of none if the run has this process alone.
        index: Of this worker. Worker 0 evaluates and decides when the run is saved and done.
    """

    addresses: tuple[str, ...] = ()
    index: int = 0

    @property
    def num(self) -> int:
        """Number of workers."""
        return max(1, len(self.addresses))

    @property
    def leads(self) -> bool:
        """Whether this is worker 0, or alone."""
        return self.index == 0

    def own(self, config: Config) -> Config:
        """Return the settings with the folder of this worker: that of the run for worker 0."""
        if self.leads:
            return config
        logdir = pathlib.Path(config.logdir) / FOLDER / str(self.index)
        return config.update({"logdir": str(logdir)})

    def seed(self, *parts: int) -> tuple[int, ...]:
        """Return parts of a seed that are another worker's too, made this worker's own."""
        return parts if self.leads else (*parts, 0, self.index)

    def share(self, total: int) -> int:
        """Return the part of a number of the whole run that one worker has, rounded up."""
        return -(-total // self.num)


ALONE = Cluster()


def read_cluster(environ: Mapping[str, str]) -> Cluster:
    """Read TF_CONFIG.

    Args:
        environ: The environment variables.

    Returns:
        A cluster of one, without addresses, if there is no TF_CONFIG or it names one worker only.

    Raises:
        UserError: It names no place in a cluster of workers.
    """
    text = environ.get(VARIABLE, "")
    if not text.strip():
        return ALONE
    try:
        document = json.loads(text)
    except ValueError:
        raise _wrong(text, "is no JSON", f"write it {_EXAMPLE}") from None
    cluster = document.get("cluster", {}) if isinstance(document, dict) else None
    task = document.get("task", {}) if isinstance(document, dict) else None
    if not isinstance(cluster, dict) or not isinstance(task, dict):
        raise _wrong(document, "does not consist of cluster and task", f"write it {_EXAMPLE}")
    if not cluster:
        return ALONE
    for job in cluster:
        if job not in ("chief", "worker"):
            raise _wrong(job, "names a job that is no worker", "list all machines as worker")
    chiefs, workers = (_addresses(cluster, job) for job in ("chief", "worker"))
    if len(chiefs) > 1:
        raise _wrong(chiefs, "has more than one chief", "list all machines but one as worker")
    index = _index(task, chiefs, workers)
    addresses = (*chiefs, *workers)
    twice = sorted({a for a in addresses if addresses.count(a) > 1})
    if twice:
        raise _wrong(twice[0], "names an address twice", "give every worker its own")
    return Cluster(addresses, index) if len(addresses) > 1 else ALONE


def _addresses(cluster: dict[str, Any], job: str) -> list[str]:
    found = cluster.get(job, [])
    if not isinstance(found, list):
        raise _wrong({job: found}, "has no list of addresses", f"write it {_EXAMPLE}")
    for address in found:
        match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
        if match is None or not 0 < int(match[2]) < 65536:
            raise _wrong(address, "has an address that is no host:port", "write 10.0.0.1:2222")
    return found


def _index(task: dict[str, Any], chiefs: list[str], workers: list[str]) -> int:
    """Return which of the chief and the workers, in this order, this process is."""
    kind, index = task.get("type"), task.get("index")
    if kind not in ("chief", "worker"):
        raise _wrong(kind, "has a task whose type is not worker", "set it to worker")
    names = chiefs if kind == "chief" else workers
    if not names:
        raise _wrong(kind, "has a task whose type is not in its cluster", "add its address there")
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(names):
        last = len(names) - 1
        mend = f"number the {kind}s from 0 to {last}" if last else "set it to 0"
        raise _wrong(json.dumps(index), "has a task whose index is none of its cluster", mend)
    return index if kind == "chief" else len(chiefs) + index


def _wrong(value: Any, what: str, mend: str) -> UserError:
    shown = value if isinstance(value, str) else json.dumps(value)
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}..."
    return UserError(
        f"the environment variable {VARIABLE} {what}: {shown}; {mend}, or unset {VARIABLE} to "
        "train on this machine alone."
    )
