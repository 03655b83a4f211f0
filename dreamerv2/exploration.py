"""Behaviours that choose the actions of training in place of the task's policy.

`Random` acts at random. `Plan2Explore` (Sekar et al., 2020) seeks states whose successors an
ensemble of predictors disagrees about, `ModelLoss` states in which the world model is expected to
be wrong; both are actor-critics that learn in imagination, from an intrinsic reward and, if wanted,
the task's reward beside it. The task's policy keeps learning from the task's reward meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from dreamerv2.actor_critic import ActorCritic, Sequence
from dreamerv2.common.errors import UserError
from dreamerv2.distributions import MultiOneHot
from dreamerv2.heads import Head
from dreamerv2.intrinsic import Intrinsic
from dreamerv2.optimizer import Optimizer
from dreamerv2.world_model import Data, LossOutputs, Metrics, WorldModel

tfd = tfp.distributions
Settings = Mapping[str, Any]

# Members that agree to this many digits would otherwise have the logarithm minus infinity.
_SMALLEST = 1e-6


class Random:
    """Uniformly random actions of any action space; learns nothing.

    Args:
        sizes: Choices of each part of a discrete action, or ``(dim,)`` of a continuous one.
        discrete: Whether actions are one-hot.
    """

    def __init__(self, sizes: tuple[int, ...], discrete: bool) -> None:
        self._sizes = sizes
        self._discrete = discrete
        self.layers: list[keras.layers.Layer] = []
        self.optimizers: dict[str, Optimizer] = {}

    def dist(self, feat: tf.Tensor) -> Any:
        """Return the distribution over actions ``(..., A)`` for features ``(..., n)``."""
        shape = tf.concat([tf.shape(feat)[:-1], [sum(self._sizes)]], 0)
        zeros = tf.zeros(shape)
        if self._discrete:
            return MultiOneHot(zeros, self._sizes)
        return tfd.Independent(tfd.Uniform(zeros - 1.0, zeros + 1.0), 1)

    def state(self) -> dict[str, tf.Variable]:
        """Return the variables that are neither weights nor optimizer slots: none."""
        return {}

    def train(
        self, outputs: LossOutputs, data: Data, step: tf.Tensor, seed: tf.Tensor | None
    ) -> Metrics:
        """Do nothing."""
        return {}


class Plan2Explore(Intrinsic):
    """Seeks transitions that an ensemble of predictors disagrees about.

    Every member predicts the same target from a state and the action that leads out of it. Where
    data has been seen they agree; the standard deviation of their predictions is the reward of
    *arriving* by that transition, so that the action that made it is the one that is credited:

        states      z0        z1        z2        action[t] led to z[t]
        actions      0        a1        a2
        prediction  (z0, a1)->z1
                              (z1, a2)->z2
        rewards     r0        r1        r2        r1 is the disagreement of (z0, a1)

    r0 belongs to the transition of the replay that led to the start state; where that state
    begins a sequence or an episode there was none, and r1 stands in.

    Args:
        world_model: Where to imagine.
        behavior: Actor and critic of the exploration alone.
        action: Length of the flat action vector.
        target: What is predicted: stoch, deter, feat or embed.
        models: Members of the ensemble, K.
        offset: Agent steps between a state and its target.
        action_cond: Whether members see the action; without it the reward is that of being in
            a state.
        log: Whether the reward is the logarithm of the disagreement.
        head: Arguments of `heads.Head`.
        policy: Dtype policy of all networks.
        **kwargs: As for `Intrinsic`.
    """

    def __init__(
        self,
        world_model: WorldModel,
        behavior: ActorCritic,
        action: int,
        *,
        target: str,
        models: int,
        offset: int,
        action_cond: bool,
        log: bool,
        head: Settings,
        policy: keras.DTypePolicy,
        **kwargs: Any,
    ) -> None:
        rssm = world_model.rssm
        state = rssm.initial(1)
        sizes = {
            "stoch": math.prod(state["stoch"].shape[1:]),
            "deter": state["deter"].shape[-1],
            "feat": rssm.feat_size,
            "embed": world_model.encoder.output_size,
        }
        self._target = target
        self._offset = offset
        self._action_cond = action_cond
        self._log = log
        members = [
            Head((sizes[target],), name=f"member{k}", dtype=policy, **head) for k in range(models)
        ]
        for member in members:
            member.build((None, rssm.feat_size + (action if action_cond else 0)))
        super().__init__(world_model, behavior, layers=members, policy=policy, **kwargs)

    def predictor_loss(self, outputs: LossOutputs, data: Data) -> tf.Tensor:
        """Return the sum over members of the negative log-probability of the targets.

        The state at t and the action of t + 1, which leads out of it, predict the target at
        t + offset, unless an episode begins in between. Means are over batch and time.
        """
        offset, length = self._offset, outputs.feat.shape[1]
        count = length - offset
        inputs = self._inputs(outputs.feat[:, :count], data["action"][:, 1 : count + 1])
        target = tf.cast(self._targets(outputs)[:, offset:], tf.float32)
        same = tf.ones_like(data["is_first"][:, :count])
        for k in range(1, offset + 1):
            same &= ~data["is_first"][:, k : count + k]
        weight = tf.cast(same, tf.float32)
        weight /= tf.maximum(tf.reduce_sum(weight), 1.0)
        log_probs = [member.dist(inputs).log_prob(target) for member in self.predictor]
        log_probs[0].shape.assert_is_compatible_with(weight.shape)
        return -tf.add_n([tf.reduce_sum(weight * value) for value in log_probs])

    def intrinsic(self, seq: Sequence, arrival: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Return the disagreements ``(H + 1, N)``, aligned as in the diagram of the class."""
        if not self._action_cond:
            return self._disagreement(seq["feat"])
        later = self._disagreement(self._inputs(seq["feat"][:-1], seq["action"][1:]))
        value, known = arrival
        first = tf.where(known, value, later[0])
        return tf.concat([first[None], later], 0)

    def known_arrival(self, outputs: LossOutputs, data: Data) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the disagreements of the transitions of a batch, and which there are."""
        if not self._action_cond:
            return super().known_arrival(outputs, data)
        inputs = self._inputs(outputs.feat[:, :-1], data["action"][:, 1:])
        value = tf.pad(self._disagreement(inputs), [[0, 0], [1, 0]])
        known = tf.pad(~data["is_first"][:, 1:], [[0, 0], [1, 0]])
        return tf.reshape(value, [-1]), tf.reshape(known, [-1])

    def _inputs(self, feat: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
        """Join states and the actions that lead out of them."""
        if not self._action_cond:
            return feat
        return tf.concat([feat, tf.cast(action, feat.dtype)], -1)

    def _targets(self, outputs: LossOutputs) -> tf.Tensor:
        if self._target == "stoch":
            stoch = outputs.post["stoch"]
            return tf.reshape(stoch, [*outputs.feat.shape[:2], math.prod(stoch.shape[2:])])
        known = {"deter": outputs.post["deter"], "feat": outputs.feat, "embed": outputs.embed}
        return known[self._target]

    def _disagreement(self, inputs: tf.Tensor) -> tf.Tensor:
        predictions = [member.dist(inputs).mode() for member in self.predictor]
        value = disagreement(tf.stack(predictions))
        return tf.math.log(tf.maximum(value, _SMALLEST)) if self._log else value


class ModelLoss(Intrinsic):
    """Seeks states in which the world model is expected to be wrong.

    A head predicts, from the state, the loss that the world model has there; its prediction in
    imagination is the intrinsic reward.

    Args:
        world_model: Where to imagine.
        behavior: Actor and critic of the exploration alone.
        loss: Which loss: kl, reward, discount, image (summed over images) or proprio (over
            vectors).
        head: Arguments of `heads.Head`.
        policy: Dtype policy of all networks.
        **kwargs: As for `Intrinsic`.

    Raises:
        UserError: The world model has no such loss.
    """

    def __init__(
        self,
        world_model: WorldModel,
        behavior: ActorCritic,
        *,
        loss: str,
        head: Settings,
        policy: keras.DTypePolicy,
        **kwargs: Any,
    ) -> None:
        decoder = world_model.decoder
        heads = {name: [name] for name in world_model.heads}
        groups = {"image": list(decoder.cnn_keys), "proprio": list(decoder.mlp_keys)}
        self._names = {"kl": ["kl"], **heads, **groups}.get(loss, [])
        if not self._names:
            raise UserError(
                f"expl_model_loss is {loss!r}, but the world model predicts nothing of that "
                "kind here; use kl."
            )
        member = Head((), name="model_loss", dtype=policy, **head)
        member.build((None, world_model.rssm.feat_size))
        super().__init__(world_model, behavior, layers=[member], policy=policy, **kwargs)

    def predictor_loss(self, outputs: LossOutputs, data: Data) -> tf.Tensor:
        """Return the negative log-probability of the world model's loss at each state."""
        losses = {"kl": outputs.kl, **{k: -value for k, value in outputs.log_probs.items()}}
        target = tf.add_n([losses[name] for name in self._names])
        (head,) = self.predictor
        return -tf.reduce_mean(head.dist(outputs.feat).log_prob(tf.stop_gradient(target)))

    def intrinsic(self, seq: Sequence, arrival: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Return the predicted losses ``(H + 1, N)``."""
        (head,) = self.predictor
        return head.dist(seq["feat"]).mode()


def disagreement(predictions: tf.Tensor) -> tf.Tensor:
    """Return the standard deviation over members, averaged over what they predict.

    From ``(K, ..., n)`` float32 to ``(...)``. Unlike that of a square root the gradient is zero,
    not infinite, where all members agree.
    """
    variance = tf.math.reduce_variance(predictions, 0)
    differ = variance > 0.0
    std = tf.where(differ, tf.sqrt(tf.where(differ, variance, 1.0)), 0.0)
    return tf.reduce_mean(std, -1)
