"""The world model for research: arrays in, arrays out.

A *state* is a dict of float32 arrays with any leading dimensions, `...`:

    deter  (..., D)     recurrent part
    stoch  (..., S, K)  discrete latents, one-hot; or (..., S) Gaussian ones
    logit  (..., S, K)  statistics of `stoch`; or mean and std, each (..., S)
    feat   (..., F)     flat stoch, then deter: what all heads see

Methods that take a state read `deter` and `stoch` of it alone. Actions are those of the
environment: integers, or arrays within its bounds. `action[t]` led to state t. Wherever there is
a `seed`, None takes the most likely latents and actions, a number draws them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from dreamerv2.agent import Agent
from dreamerv2.common.config import Config
from dreamerv2.common.envs.spaces import ActSpec
from dreamerv2.common.errors import UserError
from dreamerv2.raw_observations import RawObservations

Arrays = dict[str, np.ndarray]

# States decoded at once, which bounds memory.
_CHUNK = 512


class NumpyModel:
    """The world model of a trained agent, and what its actor and critic say of a state.

    Args:
        agent: With trained weights.
        config: Of its run.
        act_space: How it acts.
        observations: Translates those of its environment.
    """

    def __init__(
        self, agent: Agent, config: Config, act_space: ActSpec, observations: RawObservations
    ) -> None:
        self._model, self._behavior = agent.world_model, agent.behavior
        self._config, self._act_space, self._observations = config, act_space, observations

    def observe(
        self,
        obs: Any,
        action: Any,
        is_first: Any = None,
        state: Mapping[str, np.ndarray] | None = None,
        seed: int | None = None,
    ) -> Arrays:
        """Infer the states of sequences of observations.

        Args:
            obs: As the environment gives them, stacked: ``(T, ...)`` or ``(B, T, ...)``, each; a
                dict of such arrays for Dict observations.
            action: ``(T, *shape)`` or ``(B, T, *shape)``; `action[t]` led to observation t. At
                first steps it is not looked at.
            is_first: ``(T,)`` or ``(B, T)`` bool: where episodes begin. By default at the first
                step, and nowhere if there is a `state`.
            state: State before the first step, ``()`` or ``(B,)``.
            seed: See above.

        Returns:
            States with the leading dimensions of `obs`, and `kl`: how much each observation
            surprised the model, in nats.

        Raises:
            UserError: A shape or a value is not possible.
        """
        data, lead = self._observations(obs, (1, 2))
        batch, steps = (1, *lead)[-2:]
        tensors = {k: v.reshape((batch, steps, *v.shape[1:])) for k, v in data.items()}
        zeros = np.zeros((batch, steps), np.float32)
        tensors.update({"reward": zeros, "is_terminal": zeros.astype(bool)})
        if is_first is None:
            is_first = np.zeros(lead, bool)
            is_first[..., 0] = state is None
        first = _shaped("is_first", np.asarray(is_first, bool), lead).reshape((batch, steps))
        vectors = self._vectors(action, lead).reshape((batch, steps, -1))
        rssm = self._model.rssm
        start = rssm.initial(batch)
        if state is not None:
            start.update(self._tensors(state)[0])
        embed = self._model.encoder(self._model.preprocess(tensors))
        post, prior = rssm.observe(embed, tf.constant(vectors), first, start, _seed(seed))
        kl = tfp.distributions.kl_divergence(rssm.get_dist(post), rssm.get_dist(prior))
        return self._arrays({**post, "feat": rssm.get_feat(post), "kl": kl}, lead, 2)

    def imagine(
        self,
        state: Mapping[str, np.ndarray],
        action: Any = None,
        horizon: int | None = None,
        seed: int | None = None,
    ) -> Arrays:
        """Predict what follows states, without observations.

        Args:
            state: With leading dimensions ``...``.
            action: ``(..., H, *shape)``; None lets the agent's policy choose.
            horizon: Number of steps H where the policy chooses; `imag_horizon` by default.
            seed: See above.

        Returns:
            States ``(..., H, ...)`` that follow; `action` that led to each, `reward`, `discount`
            and `value` of each as `predict` gives them.

        Raises:
            UserError: A shape is not possible.
        """
        current, lead = self._tensors(state)
        count = int(np.prod(lead))
        given = None
        if action is not None:
            horizon = (*np.shape(action)[len(lead) :], 1)[0]
            given = self._vectors(action, (*lead, horizon)).reshape((count, horizon, -1))
        horizon = horizon or self._config.imag_horizon
        seeds = [None] * (2 * horizon)
        if seed is not None:
            seeds = tf.unstack(tfp.random.split_seed(_seed(seed), 2 * horizon))
        rssm, rows = self._model.rssm, []
        for step in range(horizon):
            if given is None:
                policy = self._behavior.actor.dist(rssm.get_feat(current))
                chosen = seeds[2 * step]
                vector = policy.mode() if chosen is None else policy.sample(seed=chosen)
            else:
                vector = tf.constant(given[:, step])
            current = rssm.img_step(current, vector, seeds[2 * step + 1])
            rows.append({**current, "feat": rssm.get_feat(current), "vector": vector})
        stacked = {key: tf.stack([row[key] for row in rows], 1) for key in rows[0]}
        vectors = stacked.pop("vector").numpy()
        result = self._arrays(stacked, (*lead, horizon), 2)
        actions = self._act_space.to_env(vectors.reshape((count * horizon, -1)))
        result["action"] = actions.reshape((*lead, horizon, *self._act_space.shape))
        return {**result, **self.predict(result)}

    def decode(self, state: Mapping[str, np.ndarray]) -> Arrays:
        """Predict the observations of states.

        Args:
            state: With leading dimensions ``...``.

        Returns:
            By name, images ``(..., H, W, C)`` uint8 of the size that the networks see, and
            vectors ``(..., n)`` float32; only those that the decoder was made to predict.
        """
        tensors, lead = self._tensors(state)
        feat = self._model.rssm.get_feat(tensors)
        parts = [
            self._model.decoder(feat[i : i + _CHUNK]) for i in range(0, int(feat.shape[0]), _CHUNK)
        ]
        result = {}
        for key in parts[0]:
            value = np.concatenate([tf.cast(part[key], tf.float32).numpy() for part in parts])
            if key in self._model.decoder.cnn_keys:
                value = np.round(np.clip(value + 0.5, 0.0, 1.0) * 255.0).astype(np.uint8)
            result[key] = value.reshape((*lead, *value.shape[1:]))
        return result

    def predict(self, state: Mapping[str, np.ndarray]) -> Arrays:
        """Predict reward, discount and value of states.

        Args:
            state: With leading dimensions ``...``.

        Returns:
            ``(...)`` float32 each: `reward` for arriving in the state, after the transform
            `clip_rewards`; `discount`, the discount factor times the probability that the
            episode goes on; `value`, the critic's estimate of the return that follows.
        """
        tensors, lead = self._tensors(state)
        feat = self._model.rssm.get_feat(tensors)
        heads = self._model.heads
        discount = tf.fill([feat.shape[0]], self._config.discount)
        if "discount" in heads:
            discount = heads["discount"].dist(feat).mean()
        values = {
            "reward": heads["reward"].dist(feat).mode(),
            "discount": discount,
            "value": self._behavior.critic.dist(feat).mode(),
        }
        return self._arrays(values, lead, 1)

    def _vectors(self, action: Any, lead: tuple[int, ...]) -> np.ndarray:
        """Return actions of the environment as network inputs ``(N, A)``."""
        shape = self._act_space.shape
        values = _shaped("action", np.asarray(action), (*lead, *shape))
        return self._act_space.from_env(values.reshape((-1, *shape)))

    def _tensors(self, state: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], tuple[int, ...]]:
        """Return `deter` and `stoch` as the networks want them, and the leading dimensions."""
        one = self._model.rssm.initial(1)
        if missing := {"deter", "stoch"} - set(state):
            raise UserError(f"the state lacks {missing.pop()!r}; pass what observe() returned.")
        lead = np.shape(state["deter"])[:-1]
        result = {}
        for key in ("deter", "stoch"):
            inner = tuple(one[key].shape[1:])
            value = _shaped(key, np.asarray(state[key]), (*lead, *inner))
            result[key] = tf.cast(value.reshape((-1, *inner)), one[key].dtype)
        return result, lead

    def _arrays(self, tensors: Mapping[str, Any], lead: tuple[int, ...], merged: int) -> Arrays:
        """Return float32 arrays whose first `merged` dimensions are replaced by `lead`."""
        arrays = {key: tf.cast(value, tf.float32).numpy() for key, value in tensors.items()}
        return {key: value.reshape((*lead, *value.shape[merged:])) for key, value in arrays.items()}


def _seed(seed: int | None) -> tf.Tensor | None:
    return None if seed is None else tf.constant([seed, 0], tf.int32)


def _shaped(name: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if value.shape != tuple(shape):
        raise UserError(f"{name} has the shape {value.shape}; it must be {tuple(shape)}.")
    return value
