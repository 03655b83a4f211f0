"""The program as a user runs it: from the command to the page and back to the prompt."""

from __future__ import annotations

import http.client
import pathlib
import re
import resource
import signal
import socket
import subprocess
import sys

import browser
import pytest

from dreamerv2 import play
from dreamerv2.common import flags
from dreamerv2.common.config import Config

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCRIPT = [sys.executable, str(ROOT / "dreamerv2" / "play.py")]


@pytest.fixture(scope="module")
def logdir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run of the catching game as `export_run` leaves it."""
    import tiny

    from dreamerv2 import loading, tasks
    from dreamerv2.agent import Agent

    path = tmp_path_factory.mktemp("runs") / "catch"
    # An untrained discount head would end every dream at once.
    config = tiny.config({"task": "dummy_catch", "pred_discount": False})
    with tasks.make_env(config, "eval", 0, num=1) as env:
        spaces = dict(env.obs_space), env.act_space
    agent = Agent(config, *spaces)
    loading.export_run(loading.Run(path, config, *spaces, agent, "ckpt-1", 7, 0), path)
    return path


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SCRIPT, "--port", "0", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def read_until(process: subprocess.Popen[str], part: str) -> str:
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if part in line:
            return text
    raise AssertionError(f"it said {text!r} and {process.communicate()[1]!r}")


def test_from_the_command_to_the_page_and_back(
    logdir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    before = {path: path.read_bytes() for path in logdir.rglob("*") if path.is_file()}
    process = start("--logdir", str(logdir), "--real", "--context", "2", "--fps", "10")
    try:
        said = read_until(process, "Ctrl-C")
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", said)
        assert found and "Playing dummy_catch as ckpt-1" in said
        assert f"ssh -L {found[1]}:127.0.0.1:{found[1]} " in said
        if browser.CHROMIUM is not None:
            with browser.Browser(tmp_path / "profile") as page:
                page.open(found[0])
                page.wait("document.body.dataset.number")
                page.key("KeyP")
                page.wait("frame.paused")
                page.key("KeyR")
                page.wait("frame.episode === 2")
                for step, (key, name) in enumerate(
                    [("ArrowRight", "right"), ("ArrowLeft", "left"), ("Digit1", "stay")], 1
                ):
                    page.key(key)
                    page.wait(f"frame.step === {step}")
                    assert page.evaluate("frame.action") == name
                assert page.evaluate("document.images.length") == 2
                process.send_signal(signal.SIGINT)
                page.wait("document.body.dataset.state === 'lost'")
        else:
            connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
            connection.request("GET", "/events?client=a")
            stream = connection.getresponse()
            assert b"hello" in stream.readline()
            process.send_signal(signal.SIGINT)
            assert b"bye" in stream.read()
        assert process.wait(30) == 0
        assert process.communicate()[1] == ""
    finally:
        process.kill()
        process.communicate()
    assert before == {path: path.read_bytes() for path in logdir.rglob("*") if path.is_file()}


def test_without_an_environment_dreams_begin_in_the_replay(
    logdir: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "custom"
    copy.mkdir()
    Config.load(logdir / "config.yaml").update({"task": "custom_mine"}).save(copy / "config.yaml")
    for name in ("spaces.json", "checkpoint"):
        (copy / name).symlink_to(logdir / name)
    assert play.main(["--logdir", str(copy), "--port", "0", "--real"]) == 2
    assert "only dreamerv2.api can make the environment" in capsys.readouterr().err
    assert play.main(["--logdir", str(copy), "--port", "0"]) == 2
    said = capsys.readouterr().err
    assert "note: only dreamerv2.api" in said and "holds no steps to begin from" in said


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--logdir"),
        (["--logdir", "{tmp}/none"], "is no folder"),
        (["--logdir", "{tmp}"], "holds no run"),
        (["--logdir", "{run}", "--fps", "0"], "'0' is not a number from 0.1 to 240"),
        (["--logdir", "{run}", "--port", "70000"], "'70000' is not a port"),
        (["--logdir", "{run}", "--context", "0"], "'0' is not a whole number from 1"),
        (["--logdir", "{run}", "--reel"], "unrecognized arguments: --reel"),
        (["--logdir", "{run}", "--real", "--start", "replay"], "leave out one of them"),
        (["--logdir", "{run}", "--port", "{port}"], "port {port} is in use; choose another one"),
        (["--logdir", "{run}", "--port", "0", "--checkpoint", "9"], "no checkpoint '9'"),
    ],
)
def test_refusals_are_one_sentence(
    arguments: list[str],
    message: str,
    logdir: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        values = {"tmp": tmp_path, "run": logdir, "port": other.getsockname()[1]}
        assert play.main([argument.format(**values) for argument in arguments]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and said.out == ""
    assert message.format(**values) in said.err


def test_atari_keys_are_named_after_the_game_and_run_at_its_speed() -> None:
    config = flags.build(ROOT / "dreamerv2" / "configs.yaml").update(
        {"task": "atari_boxing", "action_repeat": 4, "atari_full_actions": True}
    )
    names = play._names(config)
    assert names is not None and len(names) == 18 and names[-1] == "DOWNLEFTFIRE"
    assert play._usual_fps(config) == 15
    assert play._names(config.update({"task": "gym_CartPole-v1"})) is None


def test_help_is_quick() -> None:
    began = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    text = subprocess.run([*SCRIPT, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--policy" in text
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - began < 1
