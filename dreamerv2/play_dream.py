"""The game that `play` is about: the world model imagines what the chosen actions lead to."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from dreamerv2.common.envs.vector import VecEnv
from dreamerv2.loading import Run
from dreamerv2.play_view import Frame, View
from dreamerv2.rssm import State

Transition = Mapping[str, np.ndarray]
Outputs = dict[str, tf.Tensor]

# The discount factor is the target of the discount head, and zero where an episode ends; below
# this share of it the head holds an end for likelier than not.
END = 0.5


def use_one_thread() -> None:
    """Compute with one thread; without effect once anything has been computed.

    For a batch of one, two threads are no faster than one but take a fifth more of a core, and
    on a busy machine they wait for each other.
    """
    with contextlib.suppress(RuntimeError):  # TensorFlow has started; it is slower, not wrong.
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)


class Dreamer:
    """Compiled single steps of the world model, for one sequence.

    Latent states have the leading dimension 1. What is predicted from them: `value` (a scalar),
    `choice` (what the agent would do, ``(A,)``) and, except by `observe`, `reward`, `discount`
    (scalars), and the decoded observations below `decoded/`.

    Args:
        run: The trained agent, kept as the attribute `run`.
        seed: Of the latents that are drawn.
    """

    def __init__(self, run: Run, seed: int = 0) -> None:
        self.run = run
        self._agent = run.agent
        self._discount = float(run.config.discount)
        self._images = frozenset(run.agent.world_model.decoder.cnn_keys)
        self._dim = run.act_space.dim
        self._seeds = tf.random.Generator.from_seed(seed, "philox")
        compiled: Callable[[Any], Any] = lambda function: function  # noqa: E731
        if run.agent.jit != "off":
            compiled = tf.function(autograph=False, jit_compile=run.agent.jit == "xla")
        self._observe_fn = compiled(self._observe)
        self._imagine_fn = compiled(self._imagine)
        self._predict_fn = compiled(self._predict)

    def initial(self) -> State:
        """Return the state before the first observation."""
        return self._agent.world_model.rssm.initial(1)

    def observe(
        self, state: State, action: np.ndarray, transition: Transition
    ) -> tuple[State, Outputs]:
        """Take in what was observed after an action ``(A,)``; observations ``(1, ...)``."""
        data = {key: v for key, v in transition.items() if not key.startswith("log_")}
        return self._observe_fn(state, self._batch(action), data, self._seed())

    def predict(self, state: State) -> Outputs:
        """Predict what `imagine` does, from a state that was observed."""
        return self._predict_fn(state)

    def imagine(self, state: State, action: np.ndarray) -> tuple[State, Outputs]:
        """Imagine what an action ``(A,)`` leads to."""
        return self._imagine_fn(state, self._batch(action), self._seed())

    def _batch(self, action: np.ndarray) -> tf.Tensor:
        return tf.constant(np.reshape(action, (1, self._dim)), tf.float32)

    def _seed(self) -> tf.Tensor:
        return self._seeds.uniform_full_int([2], tf.int32)

    def _observe(
        self, state: State, action: tf.Tensor, data: dict[str, tf.Tensor], seed: tf.Tensor
    ) -> tuple[State, Outputs]:
        model = self._agent.world_model
        embed = model.encoder(model.preprocess(data))
        state = model.rssm.obs_step(state, action, embed, data["is_first"], seed)
        # Decoding takes half of the time, and the observation itself is there.
        return state, self._judge(model.rssm.get_feat(state))

    def _imagine(self, state: State, action: tf.Tensor, seed: tf.Tensor) -> tuple[State, Outputs]:
        state = self._agent.world_model.rssm.img_step(state, action, seed)
        return state, self._predict(state)

    def _judge(self, feat: tf.Tensor) -> Outputs:
        behavior = self._agent.behavior
        value, choice = behavior.critic.dist(feat).mode(), behavior.actor.dist(feat).mode()
        return {"value": value[0], "choice": choice[0]}

    def _predict(self, state: State) -> Outputs:
        model = self._agent.world_model
        feat = model.rssm.get_feat(state)
        outputs = self._judge(feat)
        outputs["reward"] = model.heads["reward"].dist(feat).mean()[0]
        outputs["discount"] = tf.constant(self._discount)
        if "discount" in model.heads:
            outputs["discount"] = model.heads["discount"].dist(feat).mean()[0]
        for key, mean in model.decoder(feat).items():
            value = mean[0]
            if key in self._images:
                pixels = tf.clip_by_value(value + 0.5, 0.0, 1.0) * 255.0
                value = tf.cast(tf.round(pixels), tf.uint8)
            outputs[f"decoded/{key}"] = value
        return outputs


@dataclasses.dataclass(frozen=True)
class Context:
    """Observations from which a dream begins.

    Attributes:
        state: The latent state after the last of them.
        transition: The last of them, arrays ``(1, ...)``.
        note: Where they come from.
    """

    state: State
    transition: Transition
    note: str


class DreamGame:
    """Imagines; with an environment, takes the same actions there as well.

    Args:
        dreamer: Steps of the world model.
        start: Gives what a dream begins from.
        env: To be played beside; `start` must play the same one.
    """

    def __init__(
        self,
        dreamer: Dreamer,
        start: Callable[[], Context],
        env: VecEnv | None = None,
    ) -> None:
        self._dreamer = dreamer
        self._start = start
        self._env = env
        run = dreamer.run
        self._model = run.agent.world_model
        self._discount = float(run.config.discount)
        decoder = self._model.decoder
        decoded = [*decoder.cnn_keys, *decoder.mlp_keys]
        self._shown = decoded or [key for key in run.obs_space if not key.startswith("log_")]

    def reset(self) -> Frame:
        """Begin a new dream."""
        context = self._start()
        self._state = self._real_state = context.state
        self._outputs = self._real_outputs = self._dreamer.predict(context.state)
        self._transition = context.transition
        self._note = context.note
        self._step = 0
        self._action: np.ndarray | None = None
        self._score = self._real_score = 0.0
        return self._frame()

    def step(self, action: np.ndarray | None) -> Frame:
        """Take an action ``(A,)``, or with None the one that the agent chooses."""
        if action is None:
            action = self._outputs["choice"].numpy()
        self._action = action
        self._state, self._outputs = self._dreamer.imagine(self._state, action)
        self._score += float(self._outputs["reward"])
        self._step += 1
        if self._env is not None and not self._transition["is_last"][0]:
            self._transition = self._env.step(action[None])
            self._real_score += float(self._transition["reward"][0])
            self._real_state, self._real_outputs = self._dreamer.observe(
                self._real_state, action, self._transition
            )
        return self._frame()

    def sync(self) -> Frame | None:
        """Dream on from what is real now; None without a real episode that goes on."""
        if self._env is None or self._transition["is_last"][0]:
            return None
        self._state = self._real_state
        self._outputs = self._dreamer.predict(self._state)
        self._note = f"The dream was brought in line with reality at step {self._step}."
        return self._frame()

    def _frame(self) -> Frame:
        outputs = {key: value.numpy() for key, value in self._outputs.items()}
        discount = float(outputs["discount"])
        predicts_end = "discount" in self._model.heads
        dream = View(
            {key: outputs[f"decoded/{key}"] for key in self._shown if f"decoded/{key}" in outputs},
            reward=float(outputs["reward"]),
            discount=discount,
            value=float(outputs["value"]),
            score=self._score,
            over=predicts_end and discount < END * self._discount and self._step > 0,
        )
        real = None if self._env is None else self._real_view()
        return Frame(self._step, dream, real, self._action, outputs["choice"], self._note)

    def _real_view(self) -> View:
        # Exactly what the model is trained to predict.
        targets = self._model.preprocess(
            {key: self._transition[key] for key in ("reward", "is_terminal")}
        )
        return View(
            {key: self._transition[key][0] for key in self._shown},
            reward=float(targets["reward"][0]),
            discount=float(targets["discount"][0]),
            value=float(self._real_outputs["value"]),
            score=self._real_score,
            over=bool(self._transition["is_last"][0]),
        )
