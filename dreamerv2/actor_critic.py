"""Behaviour learning: actor and critic, trained on imagined trajectories (paper, section 2.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from dreamerv2 import replicas
from dreamerv2.heads import Head
from dreamerv2.optimizer import Optimizer
from dreamerv2.returns import lambda_return
from dreamerv2.rssm import State
from dreamerv2.schedules import Schedule
from dreamerv2.world_model import Metrics, WorldModel

Settings = Mapping[str, Any]
Sequence = dict[str, tf.Tensor]


class RewardNorm:
    """Divides rewards by the running mean of their magnitude; a momentum of 1 does nothing."""

    def __init__(self, *, momentum: float, scale: float, eps: float) -> None:
        self._momentum = momentum
        self._scale = scale
        self._eps = eps
        self.magnitude = tf.Variable(1.0, trainable=False, dtype=tf.float64, name="magnitude")

    def __call__(self, reward: tf.Tensor) -> tuple[tf.Tensor, Metrics]:
        """Update the magnitude from rewards of any shape and return them normalised."""
        mean = tf.cast(replicas.mean(tf.reduce_mean(tf.abs(reward))), tf.float64)
        mixed = self._momentum * self.magnitude + (1.0 - self._momentum) * mean
        # One overflow in float16 must not spoil the running mean for good.
        mixed = tf.where(tf.math.is_finite(mean), mixed, self.magnitude)
        magnitude = self.magnitude.assign(tf.stop_gradient(mixed))
        normed = reward / (tf.cast(magnitude, tf.float32) + self._eps) * self._scale
        metrics = {
            "reward_mean": tf.reduce_mean(reward),
            "reward_std": tf.math.reduce_std(reward),
            "reward_normed_mean": tf.reduce_mean(normed),
            "reward_normed_std": tf.math.reduce_std(normed),
        }
        return normed, metrics


class ActorCritic:
    """Learns a policy and its value entirely from imagination.

    Args:
        feat_size: Length of the world model's features.
        sizes: Choices of each part of a discrete action, or ``(dim,)`` of a continuous one.
        discrete: Whether actions are one-hot.
        actor: Arguments of `heads.Head`; `dist` auto fits the action space.
        critic: Arguments of `heads.Head`.
        actor_opt: Arguments of `Optimizer`.
        critic_opt: Arguments of `Optimizer`.
        horizon: Imagined agent steps, H.
        discount_lambda: Mixing of the lambda return.
        actor_grad: auto, reinforce, dynamics or both.
        actor_grad_mix: Share of dynamics in both, over agent steps.
        actor_ent: Scale of the entropy bonus, over agent steps.
        slow_target: Whether targets come from a slowly updated copy of the critic.
        slow_target_update: Updates between refreshes of the copy.
        slow_target_fraction: Share of the new weights in a refresh; the first copies.
        slow_baseline: Whether the baseline comes from the copy, too.
        reward_norm: Arguments of `RewardNorm`.
        policy: Dtype policy of all networks.
    """

    def __init__(
        self,
        feat_size: int,
        sizes: tuple[int, ...],
        discrete: bool,
        *,
        actor: Settings,
        critic: Settings,
        actor_opt: Settings,
        critic_opt: Settings,
        horizon: int,
        discount_lambda: float,
        actor_grad: str,
        actor_grad_mix: Schedule,
        actor_ent: Schedule,
        slow_target: bool,
        slow_target_update: int,
        slow_target_fraction: float,
        slow_baseline: bool,
        reward_norm: Settings,
        policy: keras.DTypePolicy,
    ) -> None:
        self._horizon = horizon
        self._lambda = discount_lambda
        self._grad = {"auto": "reinforce" if discrete else "dynamics"}.get(actor_grad, actor_grad)
        self._grad_mix = actor_grad_mix
        self._ent = actor_ent
        self._slow_update = slow_target_update
        self._slow_fraction = slow_target_fraction
        self._slow_baseline = slow_baseline
        self._reward_norm = RewardNorm(**reward_norm)
        shape = (sum(sizes),)
        self.actor = Head(shape, sizes=sizes, name="actor", dtype=policy, **actor)
        self.critic = Head((), name="critic", dtype=policy, **critic)
        self.slow_critic = self.critic
        if slow_target:
            self.slow_critic = Head((), name="slow_critic", dtype=policy, **critic)
        for head in (self.actor, self.critic, self.slow_critic):
            if not head.built:
                head.build((None, feat_size))
        self._updates = tf.Variable(0, trainable=False, dtype=tf.int64, name="updates")
        scaling = policy.name == "mixed_float16"
        self.actor_optimizer = Optimizer(
            "actor", self.actor.trainable_variables, scaling=scaling, **actor_opt
        )
        self.critic_optimizer = Optimizer(
            "critic", self.critic.trainable_variables, scaling=scaling, **critic_opt
        )

    @property
    def layers(self) -> list[Head]:
        """All networks."""
        slow = [] if self.slow_critic is self.critic else [self.slow_critic]
        return [self.actor, self.critic, *slow]

    @property
    def optimizers(self) -> dict[str, Optimizer]:
        """The optimizers by name."""
        return {"actor": self.actor_optimizer, "critic": self.critic_optimizer}

    def state(self) -> dict[str, tf.Variable]:
        """Return the variables that are neither weights nor optimizer slots, by name."""
        return {"updates": self._updates, "reward_magnitude": self._reward_norm.magnitude}

    def train(
        self,
        world_model: WorldModel,
        start: State,
        is_terminal: tf.Tensor,
        reward_fn: Callable[[Sequence], tf.Tensor],
        step: tf.Tensor,
        seed: tf.Tensor | None,
    ) -> Metrics:
        """Take one gradient step of the actor and one of the critic.

        Args:
            world_model: Where to imagine; it does not change.
            start: Posterior states with leading dimensions ``(B, T)``.
            is_terminal: ``(B, T)`` bool.
            reward_fn: Rewards ``(H + 1, B * T)`` of an imagined sequence.
            step: Agent steps so far, for the schedules.
            seed: Stateless seed ``(2,)``; None takes modes instead of samples.

        Returns:
            Float32 scalars.
        """
        # Watching only the actor, what the model would need for its own gradients is not traced.
        with tf.GradientTape(watch_accessed_variables=False) as actor_tape:
            actor_tape.watch([variable.value for variable in self.actor.trainable_variables])
            seq = world_model.imagine(self.actor, start, is_terminal, self._horizon, seed)
            seq["reward"], reward_metrics = self._reward_norm(reward_fn(seq))
            seq["value"] = self.slow_critic.dist(seq["feat"]).mode()
            target = self.target(seq)
            actor_loss, actor_metrics = self.actor_loss(seq, target, step)
        with tf.GradientTape() as critic_tape:
            critic_loss, critic_metrics = self.critic_loss(seq, target)
        metrics = {**reward_metrics, **actor_metrics, **critic_metrics}
        metrics["critic_slow"] = tf.reduce_mean(seq["value"])
        metrics["critic_target"] = tf.reduce_mean(target)
        metrics.update(self.actor_optimizer(actor_tape, actor_loss))
        metrics.update(self.critic_optimizer(critic_tape, critic_loss))
        self._update_slow_critic()
        return metrics

    def target(self, seq: Sequence) -> tf.Tensor:
        """Return lambda targets ``(H, N)`` for states 0 to H-1.

        What is in brackets takes part:

            states     z0    z1    z2    z3
            rewards    [r0]  [r1]  [r2]   r3
            values     [v0]  [v1]  [v2]  [v3]    v3 is the bootstrap
            discounts  [d0]  [d1]  [d2]   d3
            targets     t0    t1    t2
        """
        reward, value, discount = seq["reward"], seq["value"], seq["discount"]
        return lambda_return(reward[:-1], value[:-1], discount[:-1], value[-1], self._lambda)

    def actor_loss(
        self, seq: Sequence, target: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, Metrics]:
        """Return the actor's loss (paper, equation 6).

            actions          0   [a1]  [a2]   a3     a[t] led to z[t]
            states         [z0]->[z1]-> z2 -> z3     policies at z0 and z1 chose a1 and a2
            targets         t0   [t1]  [t2]          a1 is judged by t1
            baselines      [v0]  [v1]   v2    v3
            weights        [w0]  [w1]   w2    w3

        Reinforce raises the log-probability of an action by how much its target beats the
        baseline; dynamics propagates the target through the model into the action.
        """
        policy = self.actor.dist(tf.stop_gradient(seq["feat"][:-2]))
        metrics = {}
        if self._grad == "dynamics":
            objective = target[1:]
        else:
            baseline = seq["value"] if self._slow_baseline else self._values(seq["feat"])
            advantage = tf.stop_gradient(target[1:] - baseline[:-2])
            # Without the stop the action's own gradient would leak into its log-probability.
            log_prob = policy.log_prob(tf.stop_gradient(seq["action"][1:-1]))
            objective = log_prob * advantage
        if self._grad == "both":
            mix = self._grad_mix(step)
            objective = mix * target[1:] + (1.0 - mix) * objective
            metrics["actor_grad_mix"] = mix
        entropy = policy.entropy()
        entropy.shape.assert_is_compatible_with(objective.shape)
        scale = self._ent(step)
        weight = tf.stop_gradient(seq["weight"][:-2])
        loss = -tf.reduce_mean(weight * (objective + scale * entropy))
        metrics.update(actor_ent=tf.reduce_mean(entropy), actor_ent_scale=scale)
        return loss, metrics

    def critic_loss(self, seq: Sequence, target: tf.Tensor) -> tuple[tf.Tensor, Metrics]:
        """Return the critic's loss (paper, equation 5).

        What is in brackets takes part:

            states     [z0]  [z1]  [z2]   z3
            weights    [w0]  [w1]  [w2]   w3
            targets    [t0]  [t1]  [t2]
        """
        dist = self.critic.dist(tf.stop_gradient(seq["feat"][:-1]))
        log_prob = dist.log_prob(tf.stop_gradient(target))
        loss = -tf.reduce_mean(log_prob * tf.stop_gradient(seq["weight"][:-1]))
        return loss, {"critic": tf.reduce_mean(dist.mode())}

    def _values(self, feat: tf.Tensor) -> tf.Tensor:
        return self.critic.dist(feat).mode()

    def _update_slow_critic(self) -> None:
        if self.slow_critic is self.critic:
            return
        due = self._updates % self._slow_update == 0
        mix = tf.where(self._updates == 0, 1.0, self._slow_fraction)

        def refresh() -> tf.Tensor:
            pairs = zip(self.critic.variables, self.slow_critic.variables, strict=True)
            for new, slow in pairs:
                slow.assign(mix * new.value + (1.0 - mix) * slow.value)
            return tf.constant(True)

        tf.cond(due, refresh, lambda: tf.constant(False))
        self._updates.assign_add(1)
