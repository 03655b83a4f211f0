"""Gradient steps: loss scaling, clipping, decoupled weight decay, and refusal of bad gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from dreamerv2 import replicas


class _Local:
    """Applies gradients on the device that calls; Keras would sum them over devices first."""

    def _backend_update_step(
        self,
        grads: Sequence[tf.Tensor],
        trainable_variables: Sequence[keras.Variable],
        learning_rate: tf.Tensor,
    ) -> None:
        for grad, variable in zip(grads, trainable_variables, strict=True):
            self.update_step(grad, variable.value, learning_rate)  # type: ignore[attr-defined]


class FusedAdam(_Local, keras.optimizers.Adam):
    """Keras' Adam with the update of each variable in one kernel instead of about twenty.

    Slots, their names and the numbers are the same; compiling and updating take less time.
    """

    def update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Update one variable and its slots; Keras hands in the TensorFlow variable."""
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, tf.float32), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, tf.float32), step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class _Adamax(_Local, keras.optimizers.Adamax):
    pass


class _Nadam(_Local, keras.optimizers.Nadam):
    def _backend_update_step(
        self,
        grads: Sequence[tf.Tensor],
        trainable_variables: Sequence[keras.Variable],
        learning_rate: tf.Tensor,
    ) -> None:
        # Keras keeps this product of momenta in the method that `_Local` replaces.
        step = tf.cast(self.iterations.value + 1, tf.float32)
        product = self._u_product.value
        product.assign(product * self.beta_1 * (1.0 - 0.5 * tf.pow(0.96, step)))
        super()._backend_update_step(grads, trainable_variables, learning_rate)


class _SGD(_Local, keras.optimizers.SGD):
    pass


OPTIMIZERS: dict[str, Any] = {"adam": FusedAdam, "adamax": _Adamax, "nadam": _Nadam}


class Optimizer:
    """Applies one loss to one set of variables.

    An update (1) scales the loss if the networks compute in float16, (2) takes the gradients,
    averages them over the devices and unscales them, (3) clips them to a global norm, (4)
    multiplies every variable by ``1 - wd`` and (5) takes a step. Where the gradient is not finite
    nothing changes but the loss scale, which halves; it doubles after 1000 good updates in a row.

    Args:
        name: Prefix of the metrics.
        variables: What the optimizer changes; its slots are created here.
        opt: adam, adamax, nadam or sgd.
        lr: Learning rate.
        eps: Added to the denominator of the step; sgd has none.
        clip: Largest global norm of the gradients; 0 is off.
        wd: Factor of every variable that is removed before each step (not scaled by `lr`).
        scaling: Whether to scale the loss.
    """

    _GROWTH_INTERVAL = 1000
    _SCALE_LIMITS = (1.0, 2.0**24)

    def __init__(
        self,
        name: str,
        variables: Sequence[keras.Variable],
        *,
        opt: str,
        lr: float,
        eps: float,
        clip: float,
        wd: float,
        scaling: bool = False,
    ) -> None:
        self._name = name
        self._variables = list(variables)
        self._clip = clip
        self._wd = wd
        self._scaling = scaling
        if opt == "sgd":
            self._opt: Any = _SGD(lr, name=name)
        else:
            self._opt = OPTIMIZERS[opt](lr, epsilon=eps, name=name)
        self._opt.build(self._variables)
        # Checkpoints hold the rate that was used; a run continued with another one takes that.
        self._stated_lr = tf.Variable(lr, trainable=False, dtype=tf.float32)
        self._scale = tf.Variable(2.0**15 if scaling else 1.0, trainable=False, name="loss_scale")
        self._good = tf.Variable(0, trainable=False, dtype=tf.int64, name="good_updates")

    def state(self) -> dict[str, tf.Variable]:
        """Return everything that a checkpoint must hold, by name."""
        slots = {variable.path: variable.value for variable in self._opt.variables}
        slots[self._opt.learning_rate.path] = self._stated_lr
        return {**slots, "loss_scale": self._scale, "good_updates": self._good}

    def __call__(self, tape: tf.GradientTape, loss: tf.Tensor) -> dict[str, tf.Tensor]:
        """Take one step down the gradient of `loss`, a float32 scalar recorded by `tape`.

        Returns:
            Float32 scalars: the loss, the global norm of the unclipped gradients, whether the
            update was skipped (0 or 1) and, with loss scaling, the scale.
        """
        loss.shape.assert_is_compatible_with(())
        with tape:
            scaled = loss * self._scale if self._scaling else loss
        values = [variable.value for variable in self._variables]
        grads = tape.gradient(scaled, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        grads = replicas.mean(grads)
        if self._scaling:
            grads = [grad / self._scale for grad in grads]
        norm = tf.linalg.global_norm(grads)
        finite = tf.math.is_finite(norm)
        tf.cond(finite, lambda: self._step(grads, norm), self._skip)
        metrics = {
            f"{self._name}_loss": loss,
            f"{self._name}_grad_norm": norm,
            f"{self._name}_skipped": 1.0 - tf.cast(finite, tf.float32),
        }
        if self._scaling:
            metrics[f"{self._name}_loss_scale"] = tf.identity(self._scale)
        return metrics

    def _step(self, grads: list[tf.Tensor], norm: tf.Tensor) -> tf.Tensor:
        if self._clip:
            grads, _ = tf.clip_by_global_norm(grads, self._clip, norm)
        if self._wd:
            for variable in self._variables:
                variable.assign((1.0 - self._wd) * variable.value)
        self._opt.apply(grads, self._variables)
        self._good.assign_add(1)
        if self._scaling:
            due = self._good % self._GROWTH_INTERVAL == 0
            self._rescale(tf.where(due, 2.0, 1.0))
        return tf.constant(True)

    def _skip(self) -> tf.Tensor:
        self._good.assign(0)
        if self._scaling:
            self._rescale(tf.constant(0.5))
        return tf.constant(False)

    def _rescale(self, factor: tf.Tensor) -> None:
        self._scale.assign(tf.clip_by_value(self._scale * factor, *self._SCALE_LIMITS))
