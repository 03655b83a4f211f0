"""The trained agent in the repository is as good as its README says, and as small."""

import pathlib

import numpy as np
import pytest

import dreamerv2.api as dv2
from dreamerv2.common.envs import dummy

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "demo" / "catch"


@pytest.fixture(scope="module")
def policy():
    return dv2.load(FOLDER)


def test_it_catches_every_ball(policy):
    scores = policy.evaluate(episodes=40, seed=1, num=8)
    assert scores.mean >= 0.95


def test_its_model_remembers_a_ball_that_it_saw_once(policy):
    """A paddle stays where it is: the dream knows beforehand whether the ball will hit it."""
    env, stay, right = dummy.ENVS["catch"](), 1, []
    for seed in range(20):
        images, end = [env.reset(seed=seed)[0]], False
        while not end:
            image, reward, end, *_ = env.step(stay)
            images.append(image)
        seen = policy.model.observe(np.stack(images[:5]), np.full(5, stay))
        last = {key: value[-1] for key, value in seen.items()}
        dream = policy.model.imagine(last, np.full(len(images) - 5, stay))
        right.append((dream["reward"][-1] > 0.5) == (reward > 0.5))
    assert np.mean(right) >= 0.9


def test_it_is_small():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 4e6
