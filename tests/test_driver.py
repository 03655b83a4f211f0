import json

import numpy as np
import pytest

from dreamerv2.common import envs
from dreamerv2.common.driver import Driver, PolicyError, RandomPolicy
from dreamerv2.common.envs.dummy import Count
from dreamerv2.common.envs.spaces import ActSpec

CASES = [(1, "none"), (3, "none"), (1, "process"), (3, "process")]


def counting(num=1, parallel="none", **kwargs):
    return envs.make_from(lambda: Count(**kwargs), num=num, parallel=parallel, size=(8, 8))


class Alternate:
    """Actions 0, 1, 2, 0, ... by the number of calls, which it keeps in its state."""

    def __init__(self):
        self.calls = []

    def __call__(self, batch, state):
        state = 0 if state is None else state + 1
        self.calls.append((batch["count"][0].tolist(), state))
        num = len(batch["reward"])
        return np.eye(3, dtype=np.float32)[(state + np.arange(num)) % 3], state


def test_tape():
    env = counting(length=2)
    tape = []

    def on_transition(transition, worker):
        tape.append(
            (
                *(int(x) for x in transition["count"]),
                transition["action"].tolist(),
                int(transition["log_action"]),
                float(transition["reward"]),
                *(int(transition[k]) for k in ("is_first", "is_last", "is_terminal")),
            )
        )

    policy = Alternate()
    assert Driver(env, on_transition=on_transition)(policy, steps=5) == 5
    assert tape == [
        # episode, step, action, action the environment saw, reward, first, last, terminal
        (0, 0, [0, 0, 0], -1, 0, 1, 0, 0),
        (0, 1, [1, 0, 0], 0, 1, 0, 0, 0),
        (0, 2, [0, 1, 0], 1, 2, 0, 1, 1),
        (1, 0, [0, 0, 0], -1, 0, 1, 0, 0),  # Action 2 was dropped.
        (1, 1, [1, 0, 0], 0, 1, 0, 0, 0),
        (1, 2, [0, 1, 0], 1, 2, 0, 1, 0),
        (2, 0, [0, 0, 0], -1, 0, 1, 0, 0),
        (2, 1, [1, 0, 0], 0, 1, 0, 0, 0),
    ]
    assert policy.calls == [
        ([0, 0], 0),
        ([0, 1], 1),
        ([0, 2], 2),
        ([1, 0], 3),
        ([1, 1], 4),
        ([1, 2], 5),
        ([2, 0], 6),
    ]
    env.close()


@pytest.mark.parametrize("num, parallel", CASES)
def test_alignment(num, parallel):
    workers = [[] for _ in range(num)]
    episodes = []
    with counting(num, parallel, length=3, variable=True) as env:
        driver = Driver(
            env,
            on_transition=lambda t, i: workers[i].append(t),
            on_episode=lambda e, i: episodes.append((i, e)),
            keep="reward$|action|is_",
        )
        policy = RandomPolicy(env.act_space, num, 0)
        assert driver(policy, steps=10 * num) >= 10 * num
        driver(policy, steps=10 * num)
    for stream in workers:
        expected = [(e, s) for e in range(9) for s in range(4 + e % 3)]
        for transition, (episode, step) in zip(stream, expected, strict=False):
            length = 3 + episode % 3
            assert transition["count"].tolist() == [episode, step]
            assert transition["image"][0, 0].tolist() == [episode, step, 0]
            assert transition["reward"] == step
            assert transition["is_first"] == (step == 0)
            assert transition["is_last"] == (step == length)
            assert transition["is_terminal"] == (step == length and episode % 2 == 0)
            if step == 0:
                assert not transition["action"].any()
            else:
                assert transition["action"].sum() == 1
                assert transition["action"].argmax() == transition["log_action"]
        assert len(stream) == len(workers[0]) >= 20
    for worker in range(num):
        lengths = [len(e["reward"]) for i, e in episodes if i == worker]
        assert lengths[:4] == [4, 5, 6, 4]
    for _, episode in episodes:
        assert episode["reward"].tolist() == list(range(len(episode["reward"])))
        assert episode["is_last"].tolist() == [False] * (len(episode["reward"]) - 1) + [True]
        assert episode["action"].shape == (len(episode["reward"]), 3)


def test_steps_and_episodes_are_both_lower_bounds():
    with counting(length=4) as env:
        driver = Driver(env)
        policy = RandomPolicy(env.act_space, 1)
        assert driver(policy) == 0
        assert driver(policy, steps=3) == 3
        assert driver(policy, episodes=1) == 1
        assert driver(policy, steps=1, episodes=2) == 8
        assert driver(policy, steps=9, episodes=2) == 9


def test_every_worker_contributes_its_share_of_episodes():
    made = iter([1, 3, 9])
    seen = []
    with envs.make_from(lambda: Count(length=next(made)), num=3, size=(8, 8)) as env:
        driver = Driver(env, on_episode=lambda e, i: seen.append((i, len(e["reward"]) - 1)))
        driver(RandomPolicy(env.act_space, 3), episodes=4)
    assert sorted(seen) == [(0, 1), (0, 1), (1, 3), (2, 9)]


def test_reset_drops_running_episodes_and_state():
    seen = []
    with counting(length=4) as env:
        driver = Driver(env, on_episode=lambda e, i: seen.append(e["reward"].tolist()))
        policy = Alternate()
        driver(policy, steps=2)
        driver.reset()
        driver(policy, episodes=1)
    assert [call[1] for call in policy.calls] == [0, 1, 0, 1, 2, 3]
    assert policy.calls[2][0] == [1, 0]
    assert seen == [[0, 1, 2, 3, 4]]


def test_what_episodes_keep():
    seen = []
    with counting(num=2, length=6) as env:
        kept = dict(on_episode=lambda e, i: seen.append(e))
        policy = RandomPolicy(env.act_space, 2)
        Driver(env, **kept)(policy, episodes=2)
        Driver(env, **kept, video="image", video_length=3)(policy, episodes=2)
        Driver(env, **kept, keep="count", video="image", video_length=0)(policy, episodes=2)
    assert [set(e) for e in seen[::2]] == [
        {"reward", "log_action"},
        {"reward", "log_action", "image"},
        {"count"},
    ]
    assert seen[2]["image"].shape == (3, 8, 8, 3) and len(seen[2]["reward"]) == 7
    assert seen[2]["image"][:, 0, 0, 1].tolist() == [0, 1, 2]
    assert seen[2]["image"].base is None


@pytest.mark.parametrize(
    "actions, message",
    [
        (np.zeros((2, 4)), r"shape \(2, 3\), one row per environment, but gave \(2, 4\)"),
        (np.zeros(3), r"shape \(2, 3\), .* but gave \(3,\)"),
        (np.array([[0, 0, 1], [0, np.nan, 0]]), "not finite for environment 1"),
    ],
)
def test_bad_policies(actions, message):
    with counting(num=2) as env, pytest.raises(PolicyError, match=message):
        Driver(env)(lambda batch, state: (actions, state), steps=1)


def test_random_policy_continues_from_its_state():
    policy = RandomPolicy(ActSpec("continuous", (2,)), 3, seed=1)
    other = RandomPolicy(ActSpec("continuous", (2,)), 3, seed=2)
    first = policy({})[0]
    assert first.shape == (3, 2) and first.dtype == np.float32 and np.all(np.abs(first) <= 1)
    assert (other({})[0] != first).any()
    other.restore(json.loads(json.dumps(policy.state())))
    np.testing.assert_array_equal(policy({})[0], other({})[0])
    assert policy({}, "state")[1] == "state"


def test_random_policy_is_uniform():
    policy = RandomPolicy(ActSpec("multi_discrete", (2, 4)), 4000)
    mean = policy({})[0].mean(0)
    np.testing.assert_allclose(mean, [0.5] * 2 + [0.25] * 4, atol=0.03)
