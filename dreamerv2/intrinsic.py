"""What behaviours with an intrinsic reward have in common: predictor, rewards, actor and critic."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from dreamerv2.actor_critic import ActorCritic, RewardNorm, Sequence
from dreamerv2.heads import Head
from dreamerv2.optimizer import Optimizer
from dreamerv2.world_model import Data, LossOutputs, Metrics, WorldModel

Settings = Mapping[str, Any]


class Intrinsic(abc.ABC):
    """An actor-critic that seeks what a predictor says is worth seeing.

    The reward of a state is ``intr_scale * intrinsic + extr_scale * extrinsic``, each normalised
    by its own running magnitude; the extrinsic reward is what the world model predicts.

    Args:
        world_model: Where to imagine; it does not change.
        behavior: Actor and critic of the exploration alone.
        layers: The networks of the predictor.
        opt: Arguments of the `Optimizer` of the predictor.
        intr_scale: Weight of the intrinsic reward.
        extr_scale: Weight of the task's reward.
        reward_norm: Arguments of `RewardNorm`, for each of the two rewards.
        policy: Dtype policy of all networks.
    """

    def __init__(
        self,
        world_model: WorldModel,
        behavior: ActorCritic,
        *,
        layers: list[Head],
        opt: Settings,
        intr_scale: float,
        extr_scale: float,
        reward_norm: Settings,
        policy: keras.DTypePolicy,
    ) -> None:
        self.behavior = behavior
        self.predictor = layers
        self._model = world_model
        self._intr_scale = intr_scale
        self._extr_scale = extr_scale
        self._intr_norm = RewardNorm(**reward_norm)
        self._extr_norm = RewardNorm(**reward_norm)
        variables = [v for layer in layers for v in layer.trainable_variables]
        scaling = policy.name == "mixed_float16"
        self._optimizer = Optimizer("predictor", variables, scaling=scaling, **opt)
        self.layers = [*layers, *behavior.layers]
        self.optimizers = {"predictor": self._optimizer, **behavior.optimizers}

    def dist(self, feat: tf.Tensor) -> Any:
        """Return the distribution over actions ``(..., A)`` for features ``(..., n)``."""
        return self.behavior.actor.dist(feat)

    def state(self) -> dict[str, tf.Variable]:
        """Return the variables that are neither weights nor optimizer slots, by name."""
        return {
            **self.behavior.state(),
            "intr_magnitude": self._intr_norm.magnitude,
            "extr_magnitude": self._extr_norm.magnitude,
        }

    def train(
        self, outputs: LossOutputs, data: Data, step: tf.Tensor, seed: tf.Tensor | None
    ) -> Metrics:
        """Take one gradient step of the predictor, then one of actor and critic.

        Args:
            outputs: What the loss of the world model computed on the batch.
            data: The batch, with leading dimensions ``(B, T)``.
            step: Agent steps so far, for the schedules.
            seed: Stateless seed ``(2,)``; None takes modes instead of samples.

        Returns:
            Float32 scalars.
        """
        with tf.GradientTape() as tape:
            loss = self.predictor_loss(outputs, data)
        metrics = self._optimizer(tape, loss)
        arrival = self.known_arrival(outputs, data)

        def reward(seq: Sequence) -> tf.Tensor:
            total, details = self.reward(seq, arrival)
            metrics.update(details)
            return total

        learned = self.behavior.train(
            self._model, outputs.post, data["is_terminal"], reward, step, seed
        )
        # Here rewards are normalised before they are added up, and not once more.
        same = ("reward_normed_mean", "reward_normed_std")
        metrics.update({key: value for key, value in learned.items() if key not in same})
        return metrics

    def reward(
        self, seq: Sequence, arrival: tuple[tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, Metrics]:
        """Return the rewards ``(H + 1, N)`` of an imagined sequence, and metrics.

        Args:
            seq: What `WorldModel.imagine` returns.
            arrival: What `known_arrival` returns.
        """
        normed, stats = self._intr_norm(self.intrinsic(seq, arrival))
        metrics = {
            "intr_mean": stats["reward_mean"],
            "intr_std": stats["reward_std"],
            "intr_normed_mean": stats["reward_normed_mean"],
        }
        total = self._intr_scale * normed
        if self._extr_scale:
            normed, stats = self._extr_norm(seq["reward"])
            metrics["extr_mean"] = stats["reward_mean"]
            metrics["extr_normed_mean"] = stats["reward_normed_mean"]
            total += self._extr_scale * normed
        return total, metrics

    @abc.abstractmethod
    def predictor_loss(self, outputs: LossOutputs, data: Data) -> tf.Tensor:
        """Return the loss of the predictor on a batch, a float32 scalar."""

    @abc.abstractmethod
    def intrinsic(self, seq: Sequence, arrival: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Return the float32 intrinsic rewards ``(H + 1, N)`` for arriving at each state."""

    def known_arrival(self, outputs: LossOutputs, data: Data) -> tuple[tf.Tensor, tf.Tensor]:
        """Return intrinsic rewards ``(B * T,)`` of the states of a batch, and which are known."""
        count = tf.size(data["is_first"])
        return tf.zeros([count]), tf.zeros([count], tf.bool)
