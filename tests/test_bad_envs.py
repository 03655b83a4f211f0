"""Environments that break their promises: each works, or is one sentence; no process is left."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import bad_envs
import numpy as np
import pytest
from bad_envs import Bad

from dreamerv2 import train
from dreamerv2.common import envs
from dreamerv2.common.driver import Driver, RandomPolicy
from dreamerv2.common.envs import workers
from dreamerv2.common.errors import UserError

TESTS = pathlib.Path(__file__).parent
TINY = ["--configs", "debug", "--jit", "off", "--steps", "40", "--prefill", "30", "--eval_eps", "0",
        "--log_every", "20"]  # fmt: skip


def drive(env: envs.VecEnv, steps: int = 100) -> tuple[int, list[int], list[Any]]:
    """Act randomly; return agent steps, lengths of episodes, and the observations."""
    lengths: list[int] = []
    seen: list[Any] = []
    driver = Driver(
        env,
        on_transition=lambda transition, worker: seen.append(transition),
        on_episode=lambda episode, worker: lengths.append(len(episode["reward"]) - 1),
    )
    return driver(RandomPolicy(env.act_space, env.num), steps=steps), lengths, seen


@pytest.mark.parametrize(
    "how, sentence",
    [
        (
            "raise",
            r"failed in step\(\), at step 25 of its episode: KeyError: 'oh no' \(in bad",
        ),
        ("quit", r"failed in step\(\), at step 25 of its episode: SystemExit: 3"),
        ("nan", "a value of 'vector' that is not finite at step 25"),
        ("inf", "a value of 'vector' that is not finite at step 25"),
        ("overflow", "a value of 'vector' that is not finite at step 25"),
        ("shape", r"step 25 of .*'vector' has the shape \(4,\) although its space says \(3,\)"),
        ("text", "step 25 .* 'vector' is <U1 although its space says float32"),
        ("none", r"'vector' has the shape \(\) although"),
        ("ragged", r"failed in step\(\), at step 25"),
        ("image_float", r"'image' is float\d+ although its space says uint8: return `\(255"),
        ("image_outside", "'image' holds 3.. to 5.. although its space says uint8: clip"),
        ("choice_outside", "an observation is 3, which its space does not allow"),
        ("choice_negative", "an observation is -1, which"),
        ("choice_float", "is float64 although its space says int64"),
        ("reward_nan", "a value of 'reward' that is not finite at step 25"),
        ("reward_inf", "a value of 'reward' that is not finite at step 25"),
        ("reward_huge", "a value of 'reward' that is not finite at step 25"),
        ("reward_none", "the reward is None, not one number"),
        ("reward_list", r"the reward is \[1.0, 2.0\], not one number"),
        ("reward_text", "the reward is 'lots', not one number"),
    ],
)
@pytest.mark.parametrize("repeat", [1, 5])
def test_broken_promises_are_a_sentence_with_name_and_step(
    how: str, sentence: str, repeat: int
) -> None:
    # Of a repeated action only the last observation is seen, but all rewards are.
    early = repeat > 1 and how.startswith("reward")
    made = lambda: LongEnough(how, bad_envs.AT * repeat - early)  # noqa: E731
    with envs.make_from(made, num=2, name="mine", action_repeat=repeat) as env:
        with pytest.raises(envs.EnvError, match=sentence) as error:
            drive(env)
        assert error.value.sentence.startswith("environment 0 of 'mine' ")
        assert "\n" not in error.value.sentence and "Traceback" not in error.value.sentence
        assert len(error.value.sentence) < 250


class LongEnough(Bad):
    def step(self, action: Any) -> Any:
        obs, reward, _, *rest = super().step(action)
        return obs, reward, self.count == 500, *rest


@pytest.mark.parametrize("how", ["fine", "double", "whole", "image_wide", "reward_array", "close"])
def test_unusual_but_right_values_work(how: str) -> None:
    with envs.make_from(bad_envs.make(how), num=2) as env:
        steps, lengths, _ = drive(env)
    assert steps >= 100 and set(lengths) == {40}


def test_episodes_of_one_step_and_without_end() -> None:
    with envs.make_from(bad_envs.make("first"), num=2) as env:
        steps, lengths, seen = drive(env)
        assert set(lengths) == {1} and len(lengths) == steps == 100
        assert [t["is_first"] for t in seen[::2]] == [True, False] * 50
    with envs.make_from(bad_envs.make("never")) as env:
        steps, lengths, _ = drive(env, 3000)
        assert steps == 3000 and not lengths


def test_the_check_of_each_step_takes_microseconds() -> None:
    with envs.make_from(bad_envs.make("fine"), num=8) as env:
        batch = env.reset()
        best = min(_time(lambda: env._check_finite(batch)) for _ in range(20))
    assert best < 200e-6  # 12 on an idle machine.


def _time(function: Any) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


class Differing(Bad):
    made = 0

    def __init__(self) -> None:
        super().__init__()
        Differing.made += 1
        self.observation_space = bad_envs.gymnasium.spaces.Box(-1, 1, (2 + Differing.made,))


def test_environments_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(UserError, match=r"environment 0 of 'm' could not be made: OSError: no such "
                       r"simulator \(in bad_envs.py, line \d+\): mend that") as error:  # fmt: skip
        envs.make_from(bad_envs.make("make"), name="m")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="environments of 'm' do not all have the same spaces") as e:
        envs.make_from(Differing, num=2, name="m")
    assert "\n" not in str(e.value)


class FailsInWorkers(Bad):
    def __init__(self, main: int) -> None:
        super().__init__("hang", 2)
        if os.getpid() != main and main > 0:
            raise OSError("no display")


def test_workers_that_cannot_start_hang_or_die(capfd: pytest.CaptureFixture[str]) -> None:
    main = os.getpid()
    with pytest.raises(UserError, match="environment 0 of 'm' could not be made: OSError: no disp"):
        envs.make_from(lambda: FailsInWorkers(main), parallel="process", name="m")
    with envs.make_from(lambda: FailsInWorkers(0), num=2, parallel="process", name="m") as env:
        env.reset()
        actions = np.eye(2, dtype=np.float32)
        env.step(actions)
        env._vector.timeout = 0.3
        begin = time.monotonic()
        with pytest.raises(
            envs.EnvError,
            match=r"environment 0 of 'm' has not answered for 0\.3 sec.* since step 1 of .*: mend",
        ):
            env.step(actions)
        assert time.monotonic() - begin < 5
        processes = env.processes
    assert [process.exitcode for process in processes] == [-signal.SIGKILL] * 2
    assert "Traceback" not in capfd.readouterr().err


ORPHAN = """
import sys
sys.path.insert(0, {tests!r})
import bad_envs
from dreamerv2.common import envs
import numpy as np

if __name__ == "__main__":
    env = envs.make_from(bad_envs.make("hang", 2), num=2, parallel="process", timeout=0)
    env.reset()
    print(*[process.pid for process in env.processes], flush=True)
    while True:
        env.step(np.eye(2, dtype=np.float32))
"""


def test_workers_that_hang_end_by_themselves_after_the_main_process_was_killed(
    tmp_path: pathlib.Path,
) -> None:
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN.format(tests=str(TESTS)))
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2 and all(map(_alive, pids))
    for pid in pids:
        os.kill(pid, signal.SIGINT)  # As from Ctrl-C, which is for the main process.
    time.sleep(0.5)
    assert all(map(_alive, pids))
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + workers.GRACE + 30
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(_alive, pids))


def _alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for a parent to ask does not."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def run(how: str, logdir: pathlib.Path, *flags: str) -> int:
    return train.main(["--logdir", str(logdir), "--task", f"gym_Bad_{how}-v0", *TINY, *flags])


def test_a_run_whose_environment_fails_is_saved_and_goes_on(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logdir = tmp_path / "run"
    monkeypatch.setattr(Bad, "at", 1000, raising=False)
    assert run("raise", logdir) == 0
    monkeypatch.setattr(Bad, "at", 25)
    assert run("raise", logdir, "--steps", "70") == 1
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert err.startswith("error: environment 0 of 'gym_Bad_raise-v0' failed in step(), at step 25")
    assert "An environment failed at 64 frames; saved. The traceback is in" in out
    assert 'raise KeyError("oh no")' in (logdir / "env_error.txt").read_text()
    monkeypatch.setattr(Bad, "at", 1000)
    assert run("raise", logdir, "--steps", "70") == 0
    assert "Resuming at 64 frames" in capsys.readouterr().out


def test_runs_with_episodes_of_one_step_work_and_endless_evaluations_end(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("first", tmp_path / "first", "--eval_eps", "2") == 0
    assert run("make", tmp_path / "make") == 2
    assert "error: environment 0 of 'gym_Bad_make-v0' could not be made" in capsys.readouterr().err
    assert not (tmp_path / "make").exists()
    from dreamerv2 import evaluation

    monkeypatch.setattr(evaluation, "ENDLESS", 30)
    command = ["--eval_eps", "1", "--time_limit", "0"]
    assert run("never", tmp_path / "never", *command) == 1
    err = capsys.readouterr().err
    assert "an episode of 'gym_Bad_never-v0' has not ended after 30 agent steps of an eval" in err
    assert "set time_limit" in err and err.count("\n") == 1
