"""Recurrent state-space model (paper, section 2.1 and equation 1).

The state at each step has a deterministic part `deter` of shape ``(B, deter)`` and a stochastic
part `stoch` of shape ``(B, stoch, classes)`` (discrete, one-hot) or ``(B, stoch)`` (Gaussian),
with statistics `logit` or `mean` and `std`. Both parts are in the compute type, statistics are
float32. The prior predicts `stoch` from `deter` alone, the posterior also sees the observation:

    deter[t] = GRU(deter[t-1], stoch[t-1], action[t])
    prior    = p(stoch[t] | deter[t])
    posterior = q(stoch[t] | deter[t], embed[t])

where `action[t]` is the action that led to observation t. Wherever a method takes `seed`, a
stateless seed of shape ``(2,)``, None means the mode instead of a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from dreamerv2 import nets
from dreamerv2.latents import Latents, State
from dreamerv2.loop_products import LoopProducts, Tensors

Linear = Callable[[str, tf.Tensor], tf.Tensor]


class RSSM(keras.layers.Layer):
    """Recurrent state-space model over flat actions and embeddings.

    Args:
        action: Length of the action vector.
        embed: Length of the embedding.
        ensemble: Number of priors; each step uses one of them, chosen at random.
        hidden: Units of the dense layers.
        deter: Units of the recurrent state.
        stoch: Number of latent variables.
        discrete: Classes per variable, or False for Gaussian variables.
        act: Activation of the dense layers.
        norm: Norm of the dense layers.
        gru_norm: Norm of the recurrent cell's gates.
        std_act: Gaussian variables: function from output to std.
        min_std: Gaussian variables: added to the std.
        **kwargs: Name and dtype policy of the layer.
    """

    def __init__(
        self,
        action: int,
        embed: int,
        *,
        ensemble: int,
        hidden: int,
        deter: int,
        stoch: int,
        discrete: int | bool,
        act: str,
        norm: str,
        gru_norm: str,
        std_act: str,
        min_std: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._sizes = {"action": action, "embed": embed, "hidden": hidden, "deter": deter}
        self._act = nets.ACTIVATIONS[act]
        self.latents = Latents(stoch, discrete, std_act, min_std)
        policy = self.dtype_policy
        stats = self.latents.stats_size

        def linear(name: str, units: int) -> nets.Linear:
            return nets.Linear(units, name=name, dtype=policy)

        def norm_layer(name: str) -> nets.Norm:
            return nets.Norm(norm, name=name, dtype=policy)

        self._cell = nets.GRUCell(deter, gru_norm, name="gru", dtype=policy)
        self._img_in = linear("img_in", hidden)
        self._img_in_norm = norm_layer("img_in_norm")
        members = range(ensemble)
        self._img_out = [linear(f"img_out_{k}", hidden) for k in members]
        self._img_out_norm = [norm_layer(f"img_out_norm_{k}") for k in members]
        self._img_dist = [linear(f"img_dist_{k}", stats) for k in members]
        self._obs_out = linear("obs_out", hidden)
        self._obs_out_norm = norm_layer("obs_out_norm")
        self._obs_dist = linear("obs_dist", stats)

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        """Create all weights; the sizes are known from the constructor."""
        sizes = self._sizes
        hidden = (None, sizes["hidden"])
        self._img_in.build((None, self.latents.size + sizes["action"]))
        self._cell.build(hidden)
        self._obs_out.build((None, sizes["deter"] + sizes["embed"]))
        for layer in self._img_out:
            layer.build((None, sizes["deter"]))
        for layer in [*self._img_dist, self._obs_dist]:
            layer.build(hidden)
        for layer in [*self._img_out_norm, self._img_in_norm, self._obs_out_norm]:
            layer.build(hidden)

    @property
    def feat_size(self) -> int:
        """Length of the features that heads see: flat `stoch`, then `deter`."""
        return self.latents.size + self._sizes["deter"]

    def initial(self, batch_size: int | tf.Tensor) -> State:
        """Return the all-zero state for `batch_size` sequences."""
        deter = tf.zeros([batch_size, self._sizes["deter"]], self.compute_dtype)
        return {"deter": deter, **self.latents.zeros(batch_size, self.compute_dtype)}

    def get_feat(self, state: State) -> tf.Tensor:
        """Return features ``(..., feat_size)`` in the compute type."""
        return tf.concat([self.latents.flatten(state["stoch"]), state["deter"]], -1)

    def get_dist(self, state: State) -> Any:
        """Return the distribution over `stoch` from the statistics in `state`, in float32."""
        return self.latents.dist(state)

    def observe(
        self,
        embed: tf.Tensor,
        action: tf.Tensor,
        is_first: tf.Tensor,
        state: State | None = None,
        seed: tf.Tensor | None = None,
    ) -> tuple[State, State]:
        """Infer the states of whole sequences.

        Products with embeddings and actions do not depend on the recurrent state and are taken
        for all steps at once, as are the statistics of the prior and the gradients of the weights
        (see `LoopProducts`); only the rest is in the loop.

        Args:
            embed: ``(B, T, embed)``.
            action: ``(B, T, action)``; ``action[:, t]`` led to observation t.
            is_first: ``(B, T)`` bool; the state and action before such a step are zeroed.
            state: State before the first step, by default all zero.
            seed: Stateless seed, or None for modes.

        Returns:
            Posterior and prior states with leading dimensions ``(B, T)``.
        """
        batch = tf.shape(embed)[0]
        if state is None:
            state = self.initial(batch)
        keep = tf.cast(~is_first, self.compute_dtype)
        seeds = _split(seed, embed.shape[1], 3)
        products = LoopProducts({
            "img_in": self._img_in.weight(0, self.latents.size),
            "gates": self._cell.gates.weight(),
            "obs_out": self._obs_out.weight(0, self._sizes["deter"]),
            "obs_dist": self._obs_dist.weight(),
        })  # fmt: skip
        added = products.before({
            "img_in": _swap(self._action_part(action, keep)),
            "gates": self._cell.gates.offset([embed.shape[1], batch]),
            "obs_out": _swap(self._embed_part(embed)),
            "obs_dist": self._obs_dist.offset([embed.shape[1], batch]),
        })  # fmt: skip

        def step(
            prev: tuple[State, Tensors], inputs: tuple[Tensors, tf.Tensor, tf.Tensor]
        ) -> tuple[State, Tensors]:
            added, keep, seeds = inputs
            seen: Tensors = {}
            linear = products.step(added, seen)
            deter = self._transition(_mask(prev[0], keep), linear)
            stats = self._posterior(deter, linear)
            stoch = self._draw(stats, None if seed is None else seeds[0])
            return {"deter": deter, "stoch": stoch, **stats}, seen

        first = (state, products.no_inputs(batch))
        states, seen = tf.scan(step, (added, _swap(keep), seeds), first)
        products.after(seen)
        post = {key: _swap(value) for key, value in states.items()}
        stats = self._prior(post["deter"], None if seed is None else seeds[0, 1])
        stoch = self._draw(stats, None if seed is None else seeds[0, 2])
        prior = {"deter": post["deter"], "stoch": stoch, **stats}
        return post, prior

    def imagine(self, action: tf.Tensor, state: State, seed: tf.Tensor | None = None) -> State:
        """Predict states for given actions, without observations.

        Args:
            action: ``(B, T, action)``.
            state: State before the first action.
            seed: Stateless seed, or None for modes.

        Returns:
            Prior states with leading dimensions ``(B, T)``.
        """
        seeds = _split(seed, action.shape[1], 1)

        def step(prev: State, inputs: tuple[tf.Tensor, tf.Tensor]) -> State:
            action, seeds = inputs
            return self.img_step(prev, action, None if seed is None else seeds[0])

        states = tf.scan(step, (_swap(action), seeds), state)
        return {key: _swap(value) for key, value in states.items()}

    def obs_step(
        self,
        state: State,
        action: tf.Tensor,
        embed: tf.Tensor,
        is_first: tf.Tensor,
        seed: tf.Tensor | None = None,
    ) -> State:
        """Return the posterior state after one observation; arguments as in `observe`, no T."""
        keep = tf.cast(~is_first, self.compute_dtype)
        linear = self._one_step(tf.cast(action, self.compute_dtype) * keep[:, None], embed)
        deter = self._transition(_mask(state, keep), linear)
        stats = self._posterior(deter, linear)
        return {"deter": deter, "stoch": self._draw(stats, seed), **stats}

    def img_step(self, state: State, action: tf.Tensor, seed: tf.Tensor | None = None) -> State:
        """Return the prior state one step ahead, for actions ``(B, action)``."""
        deter = self._transition(state, self._one_step(tf.cast(action, self.compute_dtype)))
        seeds = _split(seed, 1, 2)[0]
        stats = self._prior(deter, None if seed is None else seeds[0])
        stoch = self._draw(stats, None if seed is None else seeds[1])
        return {"deter": deter, "stoch": stoch, **stats}

    def _action_part(self, action: tf.Tensor, keep: tf.Tensor) -> tf.Tensor:
        action = tf.cast(action, self.compute_dtype) * keep[..., None]
        return self._img_in.part(action, self.latents.size, bias=True)

    def _embed_part(self, embed: tf.Tensor) -> tf.Tensor:
        return self._obs_out.part(embed, self._sizes["deter"], bias=True)

    def _one_step(self, action: tf.Tensor, embed: tf.Tensor | None = None) -> Linear:
        """Return the linear layers of a single step by name, as `LoopProducts.step` does."""
        layers = {"img_in": self._img_in, "gates": self._cell.gates,
                  "obs_out": self._obs_out, "obs_dist": self._obs_dist}  # fmt: skip
        more = {"img_in": [action], "obs_out": [embed]}
        return lambda name, x: layers[name](tf.concat([x, *more.get(name, [])], -1))

    def _transition(self, state: State, linear: Linear) -> tf.Tensor:
        x = linear("img_in", self.latents.flatten(state["stoch"]))
        x = self._act(self._img_in_norm(x))
        gates = linear("gates", tf.concat([x, state["deter"]], -1))
        return self._cell.next_state(gates, state["deter"])

    def _posterior(self, deter: tf.Tensor, linear: Linear) -> State:
        x = self._act(self._obs_out_norm(linear("obs_out", deter)))
        return self.latents.stats(linear("obs_dist", x))

    def _prior(self, deter: tf.Tensor, seed: tf.Tensor | None) -> State:
        """Return statistics for ``(B, deter)`` or ``(B, T, deter)``.

        Every step takes one member of the ensemble at random; without a seed, the first.
        """
        layers = zip(self._img_out, self._img_out_norm, self._img_dist, strict=True)
        flat, restore = nets.merge_leading(deter)
        outputs = [restore(dist(self._act(norm(out(flat))))) for out, norm, dist in layers]
        members = [self.latents.stats(output) for output in outputs]
        if len(members) == 1 or seed is None:
            return members[0]
        steps = tf.shape(deter)[1:-1]
        index = tf.random.stateless_uniform(steps, seed, 0, len(members), tf.int32)

        def choose(*values: tf.Tensor) -> tf.Tensor:
            trailing = [1] * (len(values[0].shape) - len(deter.shape) + 1)
            weights = [
                tf.reshape(tf.cast(index == k, tf.float32), tf.concat([steps, trailing], 0))
                for k in range(len(values))
            ]
            return tf.add_n([v * weight for v, weight in zip(values, weights, strict=True)])

        return tf.nest.map_structure(choose, *members)

    def _draw(self, stats: State, seed: tf.Tensor | None) -> tf.Tensor:
        return self.latents.draw(stats, seed, self.compute_dtype)


def _swap(x: tf.Tensor) -> tf.Tensor:
    """Exchange the first two axes, batch and time."""
    return tf.transpose(x, [1, 0, *range(2, len(x.shape))])


def _mask(state: State, keep: tf.Tensor) -> State:
    """Zero the states of the sequences whose `keep`, of shape ``(B,)``, is zero."""
    masks = {rank: tf.reshape(keep, [-1] + [1] * (rank - 1)) for rank in (2, 3)}
    return {key: x * tf.cast(masks[len(x.shape)], x.dtype) for key, x in state.items()}


def _split(seed: tf.Tensor | None, steps: int, uses: int) -> tf.Tensor:
    """Return seeds ``(steps, uses, 2)``; zeros that nobody reads where there is no seed."""
    if seed is None:
        return tf.zeros([steps, uses, 2], tf.int32)
    return tf.reshape(tfp.random.split_seed(seed, steps * uses), [steps, uses, 2])
