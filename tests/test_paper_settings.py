"""The configurations of the paper hold what the paper prints."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tiny import CONFIGS

from dreamerv2.common import flags
from dreamerv2.schedules import Schedule

DOCUMENT = flags.Document.read(CONFIGS)
TABLE_D1: dict[str, Any] = {
    "replay.capacity": 2_000_000,
    "dataset.batch": 50,
    "dataset.length": 50,
    "rssm.stoch": 32,
    "rssm.discrete": 32,
    "rssm.deter": 600,
    "rssm.hidden": 600,
    "loss_scales.kl": 0.1,
    "kl.balance": 0.8,
    "model_opt.lr": 2e-4,
    "clip_rewards": "tanh",
    "imag_horizon": 15,
    "discount": 0.995,
    "discount_lambda": 0.95,
    "actor_grad": "auto",  # Reinforce for discrete actions: a mixing of 1.
    "actor_ent": 1e-3,
    "actor_opt.lr": 4e-5,
    "critic_opt.lr": 1e-4,
    "slow_target_update": 100,
    "train_every": 4,
    **{f"{head}.layers": 4 for head in ("reward_head", "discount_head", "actor", "critic")},
    **{f"{head}.units": 400 for head in ("reward_head", "discount_head", "actor", "critic")},
    **{f"{part}_opt.clip": 100 for part in ("model", "actor", "critic")},
    **{f"{part}_opt.eps": 1e-5 for part in ("model", "actor", "critic")},
    **{f"{part}_opt.wd": 1e-6 for part in ("model", "actor", "critic")},
}
TEXT: dict[str, Any] = {
    "atari_full_actions": True,
    "atari_sticky": 0.25,
    "action_repeat": 4,
    "time_limit": 108_000 // 4,
    "steps": 200_000_000 // 4,
    "loss_scales.image": 1.0,
    "loss_scales.reward": 1.0,
    "loss_scales.discount": 1.0,
    "kl.free": 0.0,
    "slow_target": True,
    "slow_baseline": False,
}


def changes(name: str, base: str = "atari") -> dict[str, Any]:
    """Return what a configuration has otherwise than another."""
    before = flags.build(DOCUMENT, [base]).flat
    return {k: v for k, v in flags.build(DOCUMENT, [name]).flat.items() if v != before[k]}


def test_atari_paper_is_table_d1_and_the_text() -> None:
    config = flags.build(DOCUMENT, ["atari_paper"]).flat
    printed = {**TABLE_D1, **TEXT}
    assert {key: config[key] for key in printed} == printed


def test_atari_paper_is_atari_where_the_paper_is_silent() -> None:
    assert changes("atari_paper").keys() <= {**TABLE_D1, **TEXT}.keys()


def test_montezuma_is_atari_with_a_shorter_horizon() -> None:
    assert changes("montezuma") == {"task": "atari_montezuma_revenge", "discount": 0.99}


def test_atari_schedules_anneal_over_ten_million_frames() -> None:
    changed = changes("atari_schedules")
    assert changed.keys() == {"actor_grad", "actor_grad_mix", "actor_ent"}
    assert changed["actor_grad"] == "both"
    end = 10_000_000 // 4
    for key, values in {"actor_ent": (3e-3, 3e-4), "actor_grad_mix": (0.1, 0.0)}.items():
        schedule = Schedule.parse(key, changed[key])
        for step, value in ((0, values[0]), (end // 2, sum(values) / 2), (end, values[1])):
            assert abs(float(schedule(tf.constant(step))) - value) < 1e-7
