"""Splits updates over several devices of one machine.

Every device holds a copy of all variables and runs the same program on its share of the batch.
Whatever changes a variable is either the same on all devices or averaged over them (`mean`) first:
gradients, and running statistics of the batch. So the copies stay equal without being compared,
nothing else differs from training on one device, and a checkpoint, which holds one copy, fits any
number of devices. Device 0 alone chooses actions.

    batch       0 1 | 2 3 | 4 5         shares of three devices
    gradients   g   | g'  | g''
    mean        m   | m   | m           clipped, checked and applied by each device itself
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from dreamerv2.common.errors import UserError


class Replicas:
    """The devices of an agent.

    Args:
        devices: Number of GPUs, or of CPU devices where there is no GPU; or `all` of them.
        batch: Sequences in a batch.

    Raises:
        UserError: There are fewer devices, or the batch cannot be divided by them.
    """

    def __init__(self, devices: int | str, batch: int) -> None:
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        found = [device.name for device in tf.config.list_logical_devices(kind)]
        self.num = len(found) if devices == "all" else int(devices)
        if self.num > len(found):
            raise UserError(
                f"devices is {devices}, but TensorFlow finds {len(found)} {kind}"
                f"{'s' * (len(found) > 1)} here; set devices to {len(found)} or to all."
            )
        if batch % self.num:
            raise UserError(
                f"dataset.batch is {batch}, which cannot be divided by {self.num} devices; set it "
                f"to {batch + -batch % self.num}, or use another number of devices."
            )
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

    def own_seed(self, seed: tf.Tensor | None) -> tf.Tensor | None:
        """Return a seed for the share of this device; that of a single device is `seed` itself."""
        if self._strategy is None or seed is None:
            return seed
        return tf.random.experimental.stateless_fold_in(seed, _index())

    def _share(self, value: Any) -> Any:
        if value is None:
            return None
        size = value.shape[0] // self.num
        return value[_index() * size : (_index() + 1) * size]


def mean(values: Any) -> Any:
    """Average a structure of tensors over the devices, differentiably; with one it is unchanged.

    To be called by all devices in the same order, and not inside of `tf.cond` or loops.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, values)


def _index() -> int:
    """Return which of the devices this is."""
    context = tf.distribute.get_replica_context()
    return int(tf.get_static_value(context.replica_id_in_sync_group))


def _copied(create: Callable[..., tf.Variable], **kwargs: Any) -> tf.Variable:
    """Make variables whose copies are written by each device itself."""
    kwargs["synchronization"] = tf.VariableSynchronization.ON_READ
    kwargs["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return create(**kwargs)
