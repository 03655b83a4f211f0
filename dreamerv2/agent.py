"""The agent: wires world model, actor and critic together and compiles its three entry points.

One training step, top to bottom: `Agent.train` -> `Agent._learn` -> `WorldModel.train` (loss,
gradients, optimizer) -> `ActorCritic.train` (imagination, targets, losses, gradients, optimizer),
and, while another behaviour than the task's explores, the same for that one (`exploration`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from dreamerv2 import nets, parts
from dreamerv2.common.config import Config
from dreamerv2.common.envs.spaces import ActSpec, ObsSpec
from dreamerv2.common.errors import UserError
from dreamerv2.distributions import action_noise
from dreamerv2.optimizer import Optimizer
from dreamerv2.programs import Programs
from dreamerv2.replicas import Replicas
from dreamerv2.rssm import State
from dreamerv2.world_model import Data, Metrics

MODES = ("train", "eval")


class Agent:
    """DreamerV2 for one observation and action space.

    Args:
        config: All settings.
        obs_space: Shape and dtype of each observation; `log_*` keys are ignored.
        act_space: Kind and sizes of actions.
        seed: Seed of weights and sampling.
        replicas: Devices that updates are split over; by default `devices` of this machine.

    Raises:
        UserError: The settings do not fit the actions or the devices.
    """

    def __init__(
        self,
        config: Config,
        obs_space: Mapping[str, ObsSpec],
        act_space: ActSpec,
        seed: int = 0,
        replicas: Replicas | None = None,
    ) -> None:
        keras.utils.set_random_seed(seed)
        self._config = config
        self._act_space = act_space
        self._discrete = act_space.kind != "continuous"
        self._train_seeds = tf.random.Generator.from_seed(seed, "philox")
        # Of several workers all learn the same, but each acts by its own random numbers.
        own = (replicas.worker if replicas else 0) << 40
        self._policy_seeds = tf.random.Generator.from_seed(seed + 1 + own, "philox")
        self._eval_seeds = tf.random.Generator.from_seed(seed + 2, "philox")
        parts.check_noise(config, act_space)
        policy = nets.dtype_policy(config.precision)
        self.replicas = replicas or Replicas(config.devices, config.dataset.batch)
        self.jit = _resolve_jit(config.jit, self.replicas.num * self.replicas.workers)
        with self.replicas.scope():
            self.world_model = parts.world_model(config, obs_space, act_space, policy)
            feat_size = self.world_model.rssm.feat_size
            self.behavior = parts.actor_critic(
                config, feat_size, act_space, policy, config.reward_norm
            )
            self.exploration = parts.explorer(config, self.world_model, act_space, policy)
        self._update_fn = self._compile(self._update)
        self._act_fn: Callable[..., Any] = self._act
        if self.jit != "off":
            self._act_fn = Programs(self._act, self.jit == "xla")
        self._report_fn = self._compile(self._open_loop)

    def _compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if self.jit == "off":
            return function
        return tf.function(function, autograph=False, jit_compile=self.jit == "xla")

    def initial(self, batch_size: int) -> State:
        """Return the policy state before the first observation of `batch_size` environments."""
        latent = self.world_model.rssm.initial(batch_size)
        return {**latent, "action": tf.zeros([batch_size, self._act_space.dim])}

    def policy(
        self, obs: Data, state: State | None = None, mode: str = "train"
    ) -> tuple[tf.Tensor, State]:
        """Choose an action for each environment.

        Args:
            obs: Observations, `reward`, `is_first`, `is_last`, `is_terminal`, each ``(N, ...)``.
            state: What the previous call returned, or None at the start.
            mode: `train` samples actions; `eval` takes the most likely; `explore` samples them
                from the behaviour that explores, if there is one (see `training_mode`).

        Returns:
            Float32 actions ``(N, A)`` and the state for the next call.
        """
        modes = (*MODES, "explore") if self.exploration else MODES
        if mode not in modes:
            raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(modes)}.")
        if state is None:
            state = self.initial(len(obs["is_first"]))
        # Only what is looked at, as tensors: the call is compiled, but its arguments are not.
        encoder = self.world_model.encoder
        seen = [*encoder.cnn_keys, *encoder.mlp_keys, "is_first"]
        tensors = {key: tf.convert_to_tensor(obs[key]) for key in seen}
        return self._act_fn((tensors, state), mode)

    def training_mode(self, step: int) -> str:
        """Return the mode of `policy` in which to collect data after `step` agent steps.

        That is `explore` until `expl_until` (0: for ever) and `train` from then on.
        """
        if self.exploration is None:
            return "train"
        until = self._config.expl_until
        return "explore" if not until or step < until else "train"

    def seed_evaluation(self, seed: int) -> None:
        """Restart the random numbers of `policy` in mode eval."""
        self._eval_seeds.reset_from_seed(seed)

    def train(
        self, data: Data, step: int, state: State | None = None, sample: bool = True
    ) -> tuple[State, Metrics]:
        """Update world model, actor and critic on one batch, and what explores at this step.

        Args:
            data: Transitions with leading dimensions ``(B, T)``.
            step: Agent steps so far, for the schedules and for `expl_until`.
            state: Latent state before the sequences; needed only where they do not begin
                with `is_first`.
            sample: Whether to draw latents and actions, or to take their modes.

        Returns:
            The latent state after the sequences, and float32 scalars on the device.
        """
        explore = self.training_mode(step) == "explore"
        # An array, because TensorFlow never forgets a Python number that it was given: 0.7 KB each.
        step = tf.constant(np.array(step, np.int64))
        return self._update_fn(_without_logs(data), step, state, sample, explore)

    def report(self, data: Data) -> dict[str, tf.Tensor]:
        """Predict images of a batch open-loop: 5 steps of context, then from actions alone.

        Returns:
            For each decoded image, uint8 videos ``(B, T, 3 H, W, C)``: truth above model above
            error (grey where they agree).
        """
        return self._report_fn(_without_logs(data))

    def variables(self) -> dict[str, tf.Variable]:
        """Return everything that a checkpoint of the agent must hold, by name.

        That is all weights, all optimizer slots and loss scales, the counters of slow critics,
        the reward normalisers and the state of both random generators.
        """
        model, behavior, explorer = self.world_model, self.behavior, self.exploration
        result = _named(
            "",
            [*model.layers, *behavior.layers],
            behavior.state(),
            {"model": model.optimizer, **behavior.optimizers},
        )
        if explorer:
            result.update(
                _named("exploration/", explorer.layers, explorer.state(), explorer.optimizers)
            )
        result["seeds/train"] = self._train_seeds.state
        result["seeds/policy"] = self._policy_seeds.state
        return result

    def _update(
        self,
        data: Data,
        step: tf.Tensor,
        state: State | None,
        sample: bool,
        explore: bool = False,
    ) -> tuple[State, Metrics]:
        seeds = _seeds(self._train_seeds) if sample else (None, None)
        return self.replicas.run(self._learn, (data, state), step, seeds, explore)

    def _learn(
        self,
        batch: tuple[Data, State | None],
        step: tf.Tensor,
        seeds: Sequence[tf.Tensor | None],
        explore: bool,
    ) -> tuple[State, Metrics]:
        """Update on the share of a batch that one device has, see `replicas`."""
        data, state = batch
        model_seed, behavior_seed = (self.replicas.own_seed(seed) for seed in seeds)
        state, outputs, metrics = self.world_model.train(data, state, model_seed)
        metrics.update(
            self.behavior.train(
                self.world_model,
                outputs.post,
                data["is_terminal"],
                lambda seq: seq["reward"],
                step,
                behavior_seed,
            )
        )
        if explore:
            assert self.exploration is not None
            # Derived, not drawn: the task's policy learns the same whether anything explores.
            seed = behavior_seed
            if seed is not None:
                seed = tfp.random.split_seed(seed, salt="exploration")[0]
            learned = self.exploration.train(outputs, data, step, seed)
            metrics.update({f"expl_{key}": value for key, value in learned.items()})
        return state, metrics

    def _act(self, seen: tuple[Data, State], mode: str) -> tuple[tf.Tensor, State]:
        obs, state = seen
        model, config = self.world_model, self._config
        seeds = self._eval_seeds if mode == "eval" else self._policy_seeds
        latent_seed, action_seed, noise_seed = _seeds(seeds, 3)
        if mode == "eval" and config.eval_state_mean:
            latent_seed = None
        latent = {key: value for key, value in state.items() if key != "action"}
        embed = model.encoder(model.preprocess(obs))
        latent = model.rssm.obs_step(latent, state["action"], embed, obs["is_first"], latent_seed)
        chooser = self.behavior.actor if mode != "explore" else self.exploration
        assert chooser is not None
        policy = chooser.dist(model.rssm.get_feat(latent))
        action = policy.mode() if mode == "eval" else policy.sample(seed=action_seed)
        noise = config.eval_noise if mode == "eval" else config.expl_noise
        action = action_noise(action, noise, self._act_space.sizes, self._discrete, noise_seed)
        return action, {**latent, "action": action}

    def _open_loop(self, data: Data) -> dict[str, tf.Tensor]:
        model = self.world_model
        keys = model.decoder.cnn_keys
        if not keys:
            return {}
        seed, _ = _seeds(self._eval_seeds)
        context = min(5, data["is_first"].shape[1] // 2)
        means = model.open_loop(data, context, seed)
        videos = {}
        for key in keys:
            truth = tf.cast(data[key], tf.float32) / 255.0
            prediction = tf.clip_by_value(means[key] + 0.5, 0.0, 1.0)
            error = (prediction - truth + 1.0) / 2.0
            stacked = tf.concat([truth, prediction, error], 2)
            videos[key] = tf.cast(tf.round(stacked * 255.0), tf.uint8)
        return videos


def _named(
    prefix: str,
    layers: Iterable[keras.layers.Layer],
    state: Mapping[str, tf.Variable],
    optimizers: Mapping[str, Optimizer],
) -> dict[str, tf.Variable]:
    result = {f"weights/{prefix}{v.path}": v.value for layer in layers for v in layer.variables}
    for name, optimizer in optimizers.items():
        for key, variable in optimizer.state().items():
            result[f"optimizers/{prefix}{name}/{key}"] = variable
    return {**result, **{f"behavior/{prefix}{key}": v for key, v in state.items()}}


def _resolve_jit(jit: str, devices: int) -> str:
    """Return xla, graph or off: XLA fuses small kernels on GPUs but slows convolutions on CPUs."""
    if jit == "xla" and devices > 1:
        raise UserError(
            f"jit is xla, which compiles for one device, but there are {devices}; set jit to auto."
        )
    if jit != "auto":
        return jit
    if devices > 1:
        return "graph"
    return "xla" if tf.config.list_logical_devices("GPU") else "graph"


def _seeds(generator: tf.random.Generator, number: int = 2) -> list[tf.Tensor]:
    """Draw stateless seeds, each int32 of shape ``(2,)``."""
    return tf.unstack(generator.uniform_full_int([number, 2], tf.int32))


def _without_logs(data: Data) -> dict[str, Any]:
    return {key: value for key, value in data.items() if not key.startswith("log_")}
