"""The world model: encoder, recurrent state-space model, and heads that predict from its state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from dreamerv2 import codec
from dreamerv2.common.errors import UserError
from dreamerv2.heads import Head
from dreamerv2.latents import State
from dreamerv2.optimizer import Optimizer
from dreamerv2.returns import trajectory_weight
from dreamerv2.rssm import RSSM

Data = Mapping[str, tf.Tensor]
Metrics = dict[str, tf.Tensor]
Settings = Mapping[str, Any]

REWARD_TRANSFORMS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "identity": tf.identity,
    "sign": tf.sign,
    "tanh": tf.tanh,
}


class LossOutputs(NamedTuple):
    """What the world model's loss computes on the way, with leading dimensions ``(B, T)``."""

    embed: tf.Tensor
    feat: tf.Tensor
    post: State
    prior: State
    log_probs: dict[str, tf.Tensor]
    kl: tf.Tensor


class WorldModel:
    """Learns to predict observations, rewards and episode ends from a latent state.

    Args:
        shapes: Shape of each observation, without batch dimensions: images ``(H, W, C)``,
            vectors ``(n,)``.
        action: Length of the flat action vector.
        rssm: Arguments of `RSSM`.
        encoder: Arguments of `codec.Encoder`.
        decoder: Arguments of `codec.Decoder`.
        reward_head: Arguments of `heads.Head`.
        discount_head: Arguments of `heads.Head`.
        pred_discount: Whether there is a discount head.
        discount: Discount factor per agent step.
        grad_heads: Heads whose gradients reach the latent state.
        loss_scales: Weights of the losses: kl, reward, discount, image (every image), proprio
            (every vector).
        kl: Arguments of `Latents.kl_loss`.
        clip_rewards: Transform of the rewards that are learned: identity, sign or tanh.
        opt: Arguments of `Optimizer`.
        policy: Dtype policy of all networks.
    """

    def __init__(
        self,
        shapes: codec.Shapes,
        action: int,
        *,
        rssm: Settings,
        encoder: Settings,
        decoder: Settings,
        reward_head: Settings,
        discount_head: Settings,
        pred_discount: bool,
        discount: float,
        grad_heads: Sequence[str],
        loss_scales: Settings,
        kl: Settings,
        clip_rewards: str,
        opt: Settings,
        policy: keras.DTypePolicy,
    ) -> None:
        # Metrics are named after observations and losses: `model_loss` must mean one thing.
        for key in {"kl", "reward", "discount", "model", "actor", "critic"} & set(shapes):
            raise UserError(f"the observation {key!r} has the name of a loss; rename it.")
        self._action = action
        self._discount = discount
        self._kl = kl
        self._reward_transform = REWARD_TRANSFORMS[clip_rewards]
        self.encoder = codec.Encoder(shapes, name="encoder", dtype=policy, **encoder)
        self.encoder.build()
        self.rssm = RSSM(action, self.encoder.output_size, name="rssm", dtype=policy, **rssm)
        self.rssm.build()
        self.decoder = codec.Decoder(shapes, name="decoder", dtype=policy, **decoder)
        self.heads = {"reward": Head((), name="reward", dtype=policy, **reward_head)}
        if pred_discount:
            self.heads["discount"] = Head((), name="discount", dtype=policy, **discount_head)
        self.decoder.build((None, self.rssm.feat_size))
        for head in self.heads.values():
            head.build((None, self.rssm.feat_size))
        self._grad_heads = self._check_grad_heads(grad_heads)
        self._scales = {
            **{name: loss_scales[name] for name in ["kl", *self.heads]},
            **{key: loss_scales["image"] for key in self.decoder.cnn_keys},
            **{key: loss_scales["proprio"] for key in self.decoder.mlp_keys},
        }
        scaling = policy.name == "mixed_float16"
        self.optimizer = Optimizer("model", self.variables, scaling=scaling, **opt)

    def _check_grad_heads(self, grad_heads: Sequence[str]) -> set[str]:
        known = ["decoder", *self.heads]
        for name in grad_heads:
            # Without the discount head the published list of three is still fine.
            if name not in [*known, "discount"]:
                raise UserError(f"grad_heads names {name!r}; choose from {', '.join(known)}.")
        return set(grad_heads)

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """All layers, in the order in which data passes through them."""
        return [self.encoder, self.rssm, self.decoder, *self.heads.values()]

    @property
    def variables(self) -> list[keras.Variable]:
        """All trainable variables."""
        return [v for layer in self.layers for v in layer.trainable_variables]

    def train(
        self, data: Data, state: State | None, seed: tf.Tensor | None
    ) -> tuple[State, LossOutputs, Metrics]:
        """Take one gradient step on a batch of sequences.

        Args:
            data: Transitions with leading dimensions ``(B, T)``.
            state: State before the sequences, or None for the all-zero state.
            seed: Stateless seed ``(2,)``; None takes modes instead of samples.

        Returns:
            The state after the last step of each sequence, what the loss computed, and metrics.
        """
        with tf.GradientTape() as tape:
            loss, outputs, metrics = self.loss(data, state, seed)
        metrics.update(self.optimizer(tape, loss))
        last = {key: value[:, -1] for key, value in outputs.post.items()}
        return last, outputs, metrics

    def loss(
        self, data: Data, state: State | None = None, seed: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, LossOutputs, Metrics]:
        """Return the variational loss (paper, equation 2) and what it is made of.

            embed[t]  = encoder(observation[t])
            state[t]  ~ posterior(state[t-1], action[t], embed[t])     action[t] led to t
            log p of observation[t], reward[t], discount[t]  from state[t]
            loss      = sum of scale * mean(-log p), + scale * KL(posterior, prior)

        Means are over batch and time; the KL is balanced, see `Latents.kl_loss`.
        """
        data = self.preprocess(data)
        embed = self.encoder(data)
        post, prior = self.rssm.observe(embed, data["action"], data["is_first"], state, seed)
        feat = self.rssm.get_feat(post)
        kl_loss, kl_value = self.rssm.latents.kl_loss(post, prior, **self._kl)
        log_probs = {}
        for name, dist in self._predict(feat).items():
            log_probs[name] = dist.log_prob(data[name])
            log_probs[name].shape.assert_is_compatible_with(kl_value.shape)
        losses = {"kl": kl_loss}
        losses.update({name: -tf.reduce_mean(value) for name, value in log_probs.items()})
        assert losses.keys() == self._scales.keys(), (losses.keys(), self._scales.keys())
        total = tf.add_n([self._scales[name] * value for name, value in losses.items()])
        metrics = {f"{name}_loss": value for name, value in losses.items()}
        metrics["model_kl"] = tf.reduce_mean(kl_value)
        metrics["prior_ent"] = tf.reduce_mean(self.rssm.get_dist(prior).entropy())
        metrics["post_ent"] = tf.reduce_mean(self.rssm.get_dist(post).entropy())
        return total, LossOutputs(embed, feat, post, prior, log_probs, kl_value), metrics

    def _predict(self, feat: tf.Tensor) -> dict[str, Any]:
        """Return the distribution of every head; heads outside `grad_heads` see detached input."""

        def source(name: str) -> tf.Tensor:
            return feat if name in self._grad_heads else tf.stop_gradient(feat)

        predictions = self.decoder.dist(source("decoder"))
        predictions.update({name: head.dist(source(name)) for name, head in self.heads.items()})
        return predictions

    def preprocess(self, data: Data) -> dict[str, tf.Tensor]:
        """Turn transitions into float32 network inputs and targets.

        Images become [-0.5, 0.5], rewards are transformed, and `discount` is the target of the
        discount head: the discount factor, or zero at terminal steps. `log_*` keys are dropped.
        Acting needs neither rewards nor ends, so these may be missing.
        """
        result = {}
        for key, value in data.items():
            if key.startswith("log_"):
                continue
            value = tf.convert_to_tensor(value)
            if value.dtype == tf.uint8:
                value = tf.cast(value, tf.float32) / 255.0 - 0.5
            elif value.dtype != tf.bool:
                value = tf.cast(value, tf.float32)
            result[key] = value
        if "reward" in result:
            result["reward"] = self._reward_transform(result["reward"])
        if "is_terminal" in result:
            alive = 1.0 - tf.cast(result["is_terminal"], tf.float32)
            result["discount"] = alive * self._discount
        return result

    def imagine(
        self,
        actor: Head,
        start: State,
        is_terminal: tf.Tensor,
        horizon: int,
        seed: tf.Tensor | None,
    ) -> dict[str, tf.Tensor]:
        """Roll the policy out inside the model, from every state of a batch.

        Args:
            actor: Head that gives the distribution over actions.
            start: Posterior states with leading dimensions ``(B, T)``.
            is_terminal: ``(B, T)`` bool, whether the episode ended at a start state.
            horizon: Number of actions, H.
            seed: Stateless seed; None takes modes, with straight-through gradients.

        Returns:
            Sequences of shape ``(H + 1, B * T, ...)``: `stoch`, `deter`, `feat`, `action`
            (``action[t]`` led to state t, zeros at 0), `reward`, `discount` and `weight`.
        """
        flat = {key: _merge(start[key]) for key in ("stoch", "deter")}
        action = tf.zeros([tf.shape(flat["deter"])[0], self._action])
        seeds = tf.zeros([horizon, 2, 2], tf.int32)
        if seed is not None:
            seeds = tf.reshape(tfp.random.split_seed(seed, 2 * horizon), [horizon, 2, 2])

        def step(prev: dict[str, tf.Tensor], seeds: tf.Tensor) -> dict[str, tf.Tensor]:
            policy = actor.dist(tf.stop_gradient(self.rssm.get_feat(prev)))
            action = policy.mode() if seed is None else policy.sample(seed=seeds[0])
            state = self.rssm.img_step(prev, action, None if seed is None else seeds[1])
            return {"stoch": state["stoch"], "deter": state["deter"], "action": action}

        first = {**flat, "action": action}
        later = tf.scan(step, seeds, first)
        seq = {key: tf.concat([first[key][None], later[key]], 0) for key in first}
        seq["feat"] = self.rssm.get_feat(seq)
        seq["reward"] = self.heads["reward"].dist(seq["feat"]).mode()
        seq["discount"] = self._imagined_discount(seq["feat"], is_terminal)
        seq["weight"] = trajectory_weight(seq["discount"])
        return seq

    def _imagined_discount(self, feat: tf.Tensor, is_terminal: tf.Tensor) -> tf.Tensor:
        if "discount" not in self.heads:
            return self._discount * tf.ones(tf.shape(feat)[:-1])
        predicted = self.heads["discount"].dist(feat).mean()
        # At the start states the replay knows whether the episode ended.
        known = self._discount * (1.0 - tf.cast(_merge(is_terminal), tf.float32))
        return tf.concat([known[None], predicted[1:]], 0)

    def open_loop(self, data: Data, context: int, seed: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """Reconstruct the first `context` steps, then predict the rest from actions alone.

        Returns:
            For each decoded key, float32 means ``(B, T, *shape)``; images in [-0.5, 0.5].
        """
        data = self.preprocess(data)
        seeds = [None, None] if seed is None else tf.unstack(tfp.random.split_seed(seed, 2))
        embed = self.encoder({key: value[:, :context] for key, value in data.items()})
        actions, first = data["action"], data["is_first"]
        states, _ = self.rssm.observe(
            embed, actions[:, :context], first[:, :context], None, seeds[0]
        )
        last = {key: value[:, -1] for key, value in states.items()}
        later = self.rssm.imagine(actions[:, context:], last, seeds[1])
        states = {key: tf.concat([states[key], later[key]], 1) for key in states}
        return self.decoder(self.rssm.get_feat(states))


def _merge(x: tf.Tensor) -> tf.Tensor:
    """Merge the first two axes."""
    return tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], 0))
