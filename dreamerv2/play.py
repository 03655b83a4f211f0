"""Plays inside the world model of a run: a person or the agent steers what it imagines.

    python dreamerv2/play.py --logdir ~/logdir/atari_pong/dreamerv2/1
    python dreamerv2/play.py --logdir ~/logdir/atari_pong/dreamerv2/1 --real --policy

The game is in a page of the browser, served on this machine only.
"""

from __future__ import annotations

import pathlib
import sys

if not __package__:  # Started as a script: import this checkout, not files beside the script.
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

import argparse
import getpass
import shlex
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from dreamerv2.common.envs.spaces import EnvError
from dreamerv2.common.errors import UserError
from dreamerv2.common.quiet import quiet_start
from dreamerv2.common.signals import Interrupt

if TYPE_CHECKING:
    from dreamerv2.common.config import Config
    from dreamerv2.common.envs.vector import VecEnv
    from dreamerv2.loading import Run
    from dreamerv2.play_dream import DreamGame
    from dreamerv2.play_server import Server

PORT = 8765

# What the actions mean where the environment has no way to say so.
NAMES = {"dummy_catch": ("left", "stay", "right")}


class _Parser(argparse.ArgumentParser):
    """Raises what is wrong as a sentence instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None, program: str = "python dreamerv2/play.py") -> int:
    """Run the command line and return its exit status: 2 for bad input, 1 for a failed game."""
    try:
        args = _parser(program).parse_args(argv)
        flags = shlex.join(sys.argv[1:] if argv is None else argv)
        return _play(args, f"{program} {flags}")
    except KeyboardInterrupt:  # While loading; later on it ends the game in order.
        return 130
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except EnvError as error:
        print(f"error: {error.sentence}", file=sys.stderr)
        return 1


def _parser(program: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program,
        description="Plays inside the world model of a run, in a page of the browser.",
        epilog=f"example: {program} --logdir ~/logdir/atari_pong/dreamerv2/1 --real",
    )
    add = parser.add_argument
    add("--logdir", required=True, metavar="DIR", help="folder of the run; nothing in it changes")
    add("--checkpoint", metavar="NAME", help="such as ckpt-12 (default: the newest)")
    add("--real", action="store_true", help="play the real environment beside the dream")
    add("--policy", action="store_true", help="let the agent steer, until T is pressed")
    add("--start", choices=("env", "replay"), default="env",
        help="begin dreams in a new episode (default: env), or in the replay")  # fmt: skip
    add("--context", type=_count, default=5, metavar="N",
        help="real observations before a dream, at most (default: 5)")  # fmt: skip
    add("--fps", type=_fps, metavar="N",
        help="agent steps a second (default: as the console plays for Atari, else 8)")  # fmt: skip
    add("--seed", type=_seed, default=0, metavar="N",
        help="of environment, replay and latents (default: 0)")  # fmt: skip
    add("--port", type=_port, default=PORT, metavar="N",
        help=f"of the page; 0 for any that is free (default: {PORT})")  # fmt: skip
    add("--host", default="127.0.0.1", metavar="ADDRESS",
        help="to listen on (default: 127.0.0.1, which only this machine can reach)")  # fmt: skip
    return parser


def _play(args: argparse.Namespace, again: str) -> int:
    # Everything that can be wrong is looked at before TensorFlow, which takes seconds to import.
    from dreamerv2 import play_keys
    from dreamerv2.logdir import load_config
    from dreamerv2.play_server import Server
    from dreamerv2.play_session import Session

    if args.real and args.start == "replay":
        raise UserError(
            "--real plays from the beginning of an episode, which --start replay does not; "
            "leave out one of them."
        )
    config = load_config(pathlib.Path(args.logdir).expanduser())
    server = Server(args.host, args.port)
    try:
        env = _make_env(config, args)
        try:
            run, game = _make_game(args, env)
            controls = play_keys.make_controls(run.act_space, _names(config))
            fps = args.fps or _usual_fps(config)
            title = _title(run, args.real, again)
            session = Session(game, controls, fps=fps, agent=args.policy, title=title)
            server.start(session)
            print(_greeting(run, server), flush=True)
            with Interrupt() as interrupt:
                try:
                    session.run(lambda: interrupt.requested is not None)
                finally:
                    session.close()
        finally:
            if env is not None:
                env.close()
    finally:
        server.close()
    return 0


def _make_env(config: Config, args: argparse.Namespace) -> VecEnv | None:
    """Make the environment, or return None where dreams have to begin in the replay."""
    from dreamerv2 import tasks

    if config.task.startswith("custom_"):
        reason = f"only dreamerv2.api can make the environment of the task {config.task!r}"
        if args.real:
            raise UserError(f"{reason}, so there is none to play beside; leave out --real.")
    elif args.start == "replay":
        return None
    else:
        try:
            # A process of its own would hear Ctrl-C, too.
            return tasks.make_env(
                config.update({"envs_parallel": "none"}), "eval", args.seed, num=1
            )
        except UserError as error:
            if args.real:
                raise
            reason = str(error).rstrip(".")
    if args.start == "env":
        print(f"note: {reason}; dreams begin in the replay instead", file=sys.stderr)
    return None


def _make_game(args: argparse.Namespace, env: VecEnv | None) -> tuple[Run, DreamGame]:
    with quiet_start():
        from dreamerv2 import device, loading, play_dream, play_start

        play_dream.use_one_thread()
        device.prepare_devices()
        run = loading.load_run(args.logdir, args.checkpoint)
    dreamer = play_dream.Dreamer(run, args.seed)
    start: play_start.FreshStart | play_start.ReplayStart
    if env is None:
        start = play_start.ReplayStart(dreamer, run.path / "replay", args.context, args.seed)
    else:
        start = play_start.FreshStart(dreamer, env, args.context)
    return run, play_dream.DreamGame(dreamer, start, env if args.real else None)


def _names(config: Config) -> Sequence[str] | None:
    """Return what the actions are called, if that can be known."""
    from dreamerv2 import play_keys

    suite, _, game = config.task.partition("_")
    if suite != "atari":
        return NAMES.get(config.task)
    try:
        return play_keys.atari_names(game, config.atari_full_actions)
    except (ImportError, UserError):  # Then there is no environment either, and that was said.
        return None


def _usual_fps(config: Config) -> float:
    return 60 / config.action_repeat if config.task.startswith("atari_") else 8.0


def _title(run: Run, real: bool, again: str) -> dict[str, Any]:
    """Return what the page says about the run."""
    clip = run.config.clip_rewards
    return {
        "task": run.config.task,
        "run": f"{run.checkpoint}, {run.frames:,} frames" if run.frames else run.checkpoint,
        "reward": "reward" if clip == "identity" else f"{clip} of the reward",
        "real": real,
        "lengths": {k: spec.shape[0] for k, spec in run.obs_space.items() if len(spec.shape) == 1},
        "command": again,
    }


def _greeting(run: Run, server: Server) -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # A container may run as a user without a name.
        user = "you"
    port = server.port
    return (
        f"Playing {run.config.task} as {run.checkpoint} of {run.path} imagines it.\n"
        f"Open {server.url} in a browser. From another machine, forward the port first:\n"
        f"  ssh -L {port}:127.0.0.1:{port} {user}@{socket.gethostname()}\n"
        "Ctrl-C ends the game."
    )


def _whole(text: str, low: int, high: int, what: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


def _count(text: str) -> int:
    return _whole(text, 1, 10**6, "a whole number from 1")


def _seed(text: str) -> int:
    return _whole(text, 0, 2**31 - 1, "a whole number from 0")


def _port(text: str) -> int:
    return _whole(text, 0, 65535, "a port, 0 to 65535")


def _fps(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 240:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0.1 to 240")
    return value


if __name__ == "__main__":
    sys.exit(main())
