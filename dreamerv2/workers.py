"""Keeps the processes of a run that trains on several machines in step.

Each collects with its own environments into its own replay, at its own pace; only updates are
made together. Before each of them all workers exchange a few numbers, from which all conclude the
same: to make one update, to save before it, or to end. Nobody leaves but by what an exchange said,
so that nobody waits for somebody who has left.

    worker 0   collect    exchange  update  collect  exchange  update ...
    worker 1   collect collect ...  update  collect ........   update ...
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import faulthandler
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import tensorflow as tf

from dreamerv2 import __version__
from dreamerv2.cluster import Cluster
from dreamerv2.common.config import Config
from dreamerv2.common.errors import UserError
from dreamerv2.common.meeting import meet
from dreamerv2.common.schema import show
from dreamerv2.replicas import Replicas, WorkerReplicas, local_devices

# Seconds that TensorFlow may take to connect workers that have just met. It does not say when
# that fails, and holds up everything else in the process.
_CONNECT = 120.0

# What each worker has for itself among the variables of a checkpoint.
_OWN = ("seeds/policy",)


class Common(Protocol):
    """Counters that are the same for all workers."""

    def common(self) -> dict[str, Any]:
        """Return them."""

    def join(self, state: dict[str, Any]) -> None:
        """Take them."""


class WorkerLost(RuntimeError):
    """Another worker ended without a word, or cannot be reached any more."""


class WorkerFailed(RuntimeError):
    """Another worker has failed, and this one has saved."""


@dataclasses.dataclass(frozen=True)
class Agreed:
    """What follows from an exchange, the same for all workers.

    Attributes:
        stop: Somebody was asked to stop.
        failed: Number of the worker that failed; -1 if none did.
        done: Worker 0 has all its steps and updates.
        save: Save before the update.
        steps: Agent steps of the run by the count of worker 0.
    """

    stop: bool = False
    failed: int = -1
    done: bool = False
    save: bool = False
    steps: int = 0

    @property
    def over(self) -> bool:
        """Whether the training ends here."""
        return self.stop or self.done or self.failed >= 0


def join(cluster: Cluster, config: Config, say: Callable[[str], None]) -> Replicas | None:
    """Wait for the other workers of a run and connect with them.

    Args:
        cluster: The workers.
        config: Of the run.
        say: Shows a line.

    Returns:
        The devices to build the agent on; None for a cluster of one.

    Raises:
        UserError: The workers cannot train together, somebody did not come (see `meet`), or Ctrl-C.
    """
    if cluster.num == 1:
        return None
    devices, batch = config.devices, config.dataset.batch
    kind, num = local_devices(devices, batch, cluster.num)
    settings = {k: show(v) for k, v in config.flat.items() if k not in ("logdir", "devices")}
    version = {"the version of dreamerv2": __version__, "that of TensorFlow": tf.__version__}
    facts = {**settings, **version, "the number of devices": f"{num} {kind}"}
    try:
        meet(cluster.addresses, cluster.index, facts, say)
    except KeyboardInterrupt:
        raise UserError("interrupted while waiting for other workers; nothing is lost.") from None
    faulthandler.dump_traceback_later(_CONNECT, exit=True)
    try:
        result = WorkerReplicas(devices, batch, cluster.addresses, cluster.index)
    finally:
        faulthandler.cancel_dump_traceback_later()
    say(f"All {cluster.num} workers are there; this is worker {cluster.index}.")
    return result


class Workers:
    """This worker of a run and the others; a single process asks nobody.

    Args:
        cluster: The workers.
        replicas: Devices of the agent.

    Attributes:
        agreed: What the last exchange said.
    """

    def __init__(self, cluster: Cluster, replicas: Replicas) -> None:
        self.cluster, self.num = cluster, cluster.num
        self.agreed = Agreed()
        self._sum = tf.function(replicas.add, autograph=False)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "exchange")

    @property
    def stopped(self) -> bool:
        """Whether all agreed to end early, but for this worker failing."""
        return self.agreed.stop or self.agreed.failed not in (-1, self.cluster.index)

    def exchange(self, stop: bool, failed: bool, done: bool, save: bool, steps: int) -> Agreed:
        """Wait for all workers to call this, and conclude the same from what they say.

        Args:
            stop: This worker was asked to stop.
            failed: This worker cannot go on.
            done: There is nothing left to do; only worker 0 is asked.
            save: It is time to save; only worker 0 is asked.
            steps: Agent steps of the run; only worker 0 is asked.

        Raises:
            WorkerLost: Another worker is gone.
        """
        failures = [int(failed and i == self.cluster.index) for i in range(self.num)]
        asked = [int(value) if self.cluster.leads else 0 for value in (done, save, steps)]
        said = [int(stop), *asked, *failures]
        if self.num > 1:
            said = self._add({"said": tf.constant(said, tf.int64)})["said"].numpy().tolist()
        first = next((i for i, value in enumerate(said[4:]) if value), -1)
        self.agreed = Agreed(said[0] > 0, first, said[1] > 0, said[2] > 0, said[3])
        return self.agreed

    def part(self, stop: bool, steps: int) -> None:
        """Leave the others, if there are any: asked to `stop`, or because this worker failed."""
        if self.num > 1 and not self.agreed.over:
            with contextlib.suppress(WorkerLost):
                self.exchange(stop, not stop, False, False, steps)

    def check(self, frames: int) -> None:
        """Raise WorkerFailed where another worker ended the run, saved at so many frames."""
        failed = self.agreed.failed
        if failed not in (-1, self.cluster.index):
            raise WorkerFailed(
                f"worker {failed} failed, its output says why; saved at {frames:,} frames: start "
                "the same command on all machines again to continue."
            )

    def share(self, variables: Mapping[str, tf.Variable], common: Common, resumed: bool) -> bool:
        """Let all workers go on from the state of worker 0.

        It is the same already, unless a worker was stopped while all saved, or has joined.

        Args:
            variables: Of the agent, changed in place.
            common: Has counters that are the same for all; `join` is called with those of worker 0.
            resumed: Whether this worker went on from a checkpoint.

        Returns:
            Whether worker 0 did.

        Raises:
            WorkerLost: Another worker is gone.
        """
        if self.num == 1:
            return resumed
        found = self._share_json({"common": common.common(), "resumed": resumed})
        common.join(found["common"])
        shared = {key: value for key, value in variables.items() if key not in _OWN}
        values = {key: self._own(variable.read_value()) for key, variable in shared.items()}
        for key, value in self._add(values).items():
            shared[key].assign(value)
        return found["resumed"]

    def lost(self, error: Exception) -> WorkerLost | None:
        """Return what an error of TensorFlow means, if that another worker is gone."""
        text = str(error)
        if self.num == 1 or not isinstance(error, tf.errors.OpError):
            return None
        if not re.search(r"[Cc]ollective|[Cc]oordination|task:\d", text):
            return None
        found = [int(i) for i in re.findall(r"task:(\d+)", text) if int(i) != self.cluster.index]
        who = f"worker {found[0]}" if found else "another worker"
        return WorkerLost(
            f"{who} ended or cannot be reached; start the same command on all machines again to go "
            "on from the last checkpoint."
        )

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False)

    def _add(self, values: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Add up tensors of all workers; signals are handled during the wait, in a thread."""
        try:
            return self._thread.submit(self._sum, dict(values)).result()
        except tf.errors.OpError as error:
            raise self.lost(error) or error from error

    def _share_json(self, state: dict[str, Any]) -> Any:
        """Return what worker 0 gives."""
        data = json.dumps(state).encode()
        size = int(self._add({"size": self._own(tf.constant(len(data), tf.int64))})["size"])
        padded = tf.constant(list(data[:size].ljust(size)), tf.int64)
        return json.loads(bytes(self._add({"data": self._own(padded)})["data"].numpy().tolist()))

    def _own(self, value: tf.Tensor) -> tf.Tensor:
        """Return a value that counts only if this is worker 0."""
        return value if self.cluster.leads else tf.zeros_like(value)
