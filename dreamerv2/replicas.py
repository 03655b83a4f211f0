"""Splits updates over several devices, of one machine or of several.

Every device holds a copy of all variables and runs the same program on its share of the batch.
Whatever changes a variable is either the same on all devices or averaged over them (`mean`) first:
gradients, and running statistics of the batch. So the copies stay equal without being compared,
nothing else differs from training on one device, and a checkpoint, which holds one copy, fits any
number of devices. Device 0 alone chooses actions.

    batch       0 1 | 2 3 | 4 5         shares of three devices
    gradients   g   | g'  | g''
    mean        m   | m   | m           clipped, checked and applied by each device itself

Several machines do the same with a process on each. Every process has its part of the batch and its
device 0; the devices of all processes are numbered through.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from dreamerv2.common.errors import UserError


class Replicas:
    """The devices of an agent in this process.

    Args:
        devices: Number of GPUs, or of CPU devices where there is no GPU; or `all` of them.
        batch: Sequences in a batch.

    Attributes:
        num: Devices in this process.
        workers: Processes.
        worker: Which of them this is.

    Raises:
        UserError: There are fewer devices, or the batch cannot be divided by them.
    """

    workers, worker = 1, 0

    def __init__(self, devices: int | str, batch: int) -> None:
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        found = [device.name for device in tf.config.list_logical_devices(kind)]
        self.num = count(devices, batch, len(found), kind)
        self._strategy: tf.distribute.Strategy | None = None
        if self.num > 1:
            # Of the default, made for GPUs, a process can have no two of different sizes.
            reduction = tf.distribute.ReductionToOneDevice() if kind == "CPU" else None
            self._strategy = tf.distribute.MirroredStrategy(found[: self.num], reduction)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Create variables in here, so that every device has a copy."""
        if self._strategy is None:
            yield
            return
        with self._strategy.scope(), tf.variable_creator_scope(_copied):
            yield

    def run(
        self, function: Callable[..., tuple[Any, Any]], batch: Any, *args: Any
    ) -> tuple[Any, Any]:
        """Call ``function(share, *args)`` on every device.

        Args:
            function: Returns a structure of tensors ``(share, ...)`` and one of float32 scalars.
            batch: Structure of tensors or arrays ``(B, ...)``.
            *args: The same for all.

        Returns:
            The first structure with the shares put together, and the means of the second.
        """
        if self._strategy is None:
            return function(batch, *args)

        def replica() -> tuple[Any, Any]:
            results, scalars = function(tf.nest.map_structure(self._share, batch), *args)
            return results, mean(scalars)

        results, scalars = self._strategy.run(replica)
        local = self._strategy.experimental_local_results
        joined = tf.nest.map_structure(lambda value: tf.concat(local(value), 0), results)
        return joined, tf.nest.map_structure(lambda value: local(value)[0], scalars)

    def add(self, values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Add up tensors over the processes, of which there must be several."""
        assert self._strategy is not None

        def replica() -> dict[str, tf.Tensor]:
            first = _index() % self.num == 0
            own = {k: tf.identity(v) if first else tf.zeros_like(v) for k, v in values.items()}
            kinds: dict[tf.DType, list[str]] = {}
            for key, value in own.items():
                kinds.setdefault(value.dtype, []).append(key)
            sums: dict[str, tf.Tensor] = {}
            context = tf.distribute.get_replica_context()
            for keys in kinds.values():  # TensorFlow joins what it is given at once.
                parts = context.all_reduce(tf.distribute.ReduceOp.SUM, [own[key] for key in keys])
                sums.update(zip(keys, parts, strict=True))
            return sums

        local = self._strategy.experimental_local_results
        found = self._strategy.run(replica)
        return {key: local(value)[0] for key, value in found.items()}

    def own_seed(self, seed: tf.Tensor | None) -> tf.Tensor | None:
        """Return a seed for the share of this device; that of a single device is `seed` itself."""
        if self._strategy is None or seed is None:
            return seed
        return tf.random.experimental.stateless_fold_in(seed, _index())

    def _share(self, value: Any) -> Any:
        if value is None:
            return None
        size, index = value.shape[0] // self.num, _index() % self.num
        return value[index * size : (index + 1) * size]


class WorkerReplicas(Replicas):
    """The devices of an agent of which every one of several processes has some.

    To be made before TensorFlow computes anything, and by all processes at the same time: each
    waits for the others, and nothing but a kill ends that.

    Args:
        devices: As for `Replicas`, of each process.
        batch: Sequences in a batch, the parts of all processes together.
        addresses: ``host:port`` of the processes.
        index: Which of them this is.

    Raises:
        UserError: As for `Replicas`, or TensorFlow has been used already.
    """

    def __init__(
        self, devices: int | str, batch: int, addresses: Sequence[str], index: int
    ) -> None:
        self.workers, self.worker = len(addresses), index
        kind, self.num = local_devices(devices, batch, self.workers)
        accelerators = {kind: self.num} if kind == "GPU" else {}
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": list(addresses)}),
            task_type="worker",
            task_id=index,
            num_accelerators=accelerators,
            rpc_layer="grpc",
        )
        try:
            if kind == "GPU":  # The strategy takes all that it sees.
                tf.config.set_visible_devices(
                    tf.config.list_physical_devices(kind)[: self.num], kind
                )
            self._strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
        except (RuntimeError, ValueError) as error:
            raise UserError(
                "training on several machines has to be the first use of TensorFlow in a process "
                f"({str(error).splitlines()[0].rstrip('.')}); start a new one for it."
            ) from error


def local_devices(devices: int | str, batch: int, workers: int) -> tuple[str, int]:
    """Return the kind and the number of devices that each of several processes uses.

    Nothing is initialised, so that the processes can meet first.

    Args:
        devices: Number of GPUs or `all`; without GPUs it is 1.
        batch: Sequences in a batch, the parts of all processes together.
        workers: Processes.

    Raises:
        UserError: There are fewer devices, or the batch cannot be divided by those of all.
    """
    gpus = tf.config.list_physical_devices("GPU")
    kind = "GPU" if gpus else "CPU"
    return kind, count(devices, batch, len(gpus) or 1, kind, workers)


def count(devices: int | str, batch: int, found: int, kind: str, workers: int = 1) -> int:
    """Return how many of the devices found a process uses.

    Raises:
        UserError: There are fewer devices, or the batch cannot be divided by those of all.
    """
    num = found if devices == "all" else int(devices)
    if num > found:
        raise UserError(
            f"devices is {devices}, but TensorFlow finds {found} {kind}{'s' * (found > 1)} here; "
            f"set devices to {found} or to all."
        )
    total = num * workers
    if batch % total:
        several = f"{workers} workers with {num} device{'s' * (num > 1)} each"
        raise UserError(
            f"dataset.batch is {batch}, which cannot be divided by "
            f"{f'{num} devices' if workers == 1 else several}; set it to "
            f"{batch + -batch % total}, or use another number of devices."
        )
    return num


def mean(values: Any) -> Any:
    """Average a structure of tensors over the devices, differentiably; with one it is unchanged.

    To be called by all devices in the same order, and not inside of `tf.cond` or loops.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, values)


def _index() -> int:
    """Return which of the devices of all processes this is."""
    context = tf.distribute.get_replica_context()
    return int(tf.get_static_value(context.replica_id_in_sync_group))


def _copied(create: Callable[..., tf.Variable], **kwargs: Any) -> tf.Variable:
    """Make variables whose copies are written by each device itself."""
    kwargs["synchronization"] = tf.VariableSynchronization.ON_READ
    kwargs["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return create(**kwargs)
