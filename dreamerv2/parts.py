"""Builds the parts of an agent from its configuration.

This is the only module that knows which settings go where: the parts themselves receive values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from dreamerv2.actor_critic import ActorCritic
from dreamerv2.common.config import Config
from dreamerv2.common.envs.spaces import ActSpec, ObsSpec
from dreamerv2.common.errors import UserError
from dreamerv2.exploration import ModelLoss, Plan2Explore, Random
from dreamerv2.intrinsic import Intrinsic
from dreamerv2.limits import check_memory
from dreamerv2.schedules import Schedule
from dreamerv2.world_model import WorldModel

ACTORS = {
    "discrete": ("onehot",),
    "multi_discrete": ("multi_onehot",),
    "continuous": ("trunc_normal", "tanh_normal", "normal"),
}


def world_model(
    config: Config,
    obs_space: Mapping[str, ObsSpec],
    act_space: ActSpec,
    policy: keras.DTypePolicy,
) -> WorldModel:
    """Return the world model for one observation and action space.

    Raises:
        UserError: Settings do not go together, or need more memory than there is.
    """
    check_memory(config, obs_space, act_space)
    shapes = {k: tuple(s.shape) for k, s in obs_space.items() if not k.startswith("log_")}
    return WorldModel(
        shapes,
        act_space.dim,
        rssm=config.rssm,
        encoder=config.encoder,
        decoder=config.decoder,
        reward_head=config.reward_head,
        discount_head=config.discount_head,
        pred_discount=config.pred_discount,
        discount=config.discount,
        grad_heads=config.grad_heads,
        loss_scales=config.loss_scales,
        kl=config.kl,
        clip_rewards=config.clip_rewards,
        opt=config.model_opt,
        policy=policy,
    )


def actor_critic(
    config: Config,
    feat_size: int,
    act_space: ActSpec,
    policy: keras.DTypePolicy,
    reward_norm: Mapping[str, Any],
) -> ActorCritic:
    """Return an actor and a critic that normalise their rewards by `reward_norm`."""
    return ActorCritic(
        feat_size,
        act_space.sizes,
        act_space.kind != "continuous",
        actor={**config.actor, "dist": _actor_dist(config.actor.dist, act_space)},
        critic=config.critic,
        actor_opt=config.actor_opt,
        critic_opt=config.critic_opt,
        horizon=config.imag_horizon,
        discount_lambda=config.discount_lambda,
        actor_grad=config.actor_grad,
        actor_grad_mix=Schedule.parse("actor_grad_mix", config.actor_grad_mix),
        actor_ent=Schedule.parse("actor_ent", config.actor_ent),
        slow_target=config.slow_target,
        slow_target_update=config.slow_target_update,
        slow_target_fraction=config.slow_target_fraction,
        slow_baseline=config.slow_baseline,
        reward_norm=reward_norm,
        policy=policy,
    )


def explorer(
    config: Config, model: WorldModel, act_space: ActSpec, policy: keras.DTypePolicy
) -> Random | Intrinsic | None:
    """Return the behaviour that acts until `expl_until`, or None if the task's own does.

    Raises:
        UserError: Settings of the exploration do not go together.
    """
    kind = config.expl_behavior
    if kind == "greedy":
        return None
    if 0 < config.expl_until <= config.prefill:
        raise UserError(
            f"expl_until is {config.expl_until}, but the first {config.prefill} agent steps are "
            "random anyway (prefill); use more than these, or 0 to explore for ever."
        )
    if kind == "Random":
        return Random(act_space.sizes, act_space.kind != "continuous")
    # The two rewards are normalised before they are added up; their sum is not once more.
    unchanged = {"momentum": 1.0, "scale": 1.0, "eps": 0.0}
    behavior = actor_critic(config, model.rssm.feat_size, act_space, policy, unchanged)
    common: dict[str, Any] = dict(
        head=config.expl_head,
        opt=config.expl_opt,
        intr_scale=config.expl_intr_scale,
        extr_scale=config.expl_extr_scale,
        reward_norm=config.expl_reward_norm,
        policy=policy,
    )
    if kind == "ModelLoss":
        return ModelLoss(model, behavior, loss=config.expl_model_loss, **common)
    if config.disag_offset >= config.dataset.length:
        raise UserError(
            f"disag_offset is {config.disag_offset}, but the sequences of a batch have "
            f"dataset.length {config.dataset.length}; use less than that."
        )
    return Plan2Explore(
        model,
        behavior,
        act_space.dim,
        target=config.disag_target,
        models=config.disag_models,
        offset=config.disag_offset,
        action_cond=config.disag_action_cond,
        log=config.disag_log,
        **common,
    )


def check_noise(config: Config, act_space: ActSpec) -> None:
    """Raise UserError where noise on discrete actions is no probability."""
    for key in ("expl_noise", "eval_noise"):
        if act_space.kind != "continuous" and config[key] > 1.0:
            raise UserError(
                f"{key} is {config[key]}, but for discrete actions it is a probability; "
                "use at most 1."
            )


def _actor_dist(dist: str, act_space: ActSpec) -> str:
    fitting = ACTORS[act_space.kind]
    if dist == "auto":
        return fitting[0]
    if dist not in fitting:
        raise UserError(
            f"actor.dist is {dist!r}, but {act_space.kind} actions need "
            f"{' or '.join(fitting)}; or leave it at auto."
        )
    return dist
