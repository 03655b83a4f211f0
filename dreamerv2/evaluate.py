"""Evaluates a trained agent: plays episodes, prints the scores, writes videos and dreams.

    python dreamerv2/evaluate.py --logdir ~/logdir/atari_pong/dreamerv2/1 --episodes 10 --video

Needs nothing but the folder of the run, which may be in use by the training itself.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

if not __package__:  # Started as a script: import this checkout, not files beside the script.
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from dreamerv2 import logdir
from dreamerv2.common.arguments import number
from dreamerv2.common.envs.spaces import EnvError
from dreamerv2.common.errors import UserError
from dreamerv2.common.quiet import quiet_start
from dreamerv2.common.signals import Interrupt
from dreamerv2.common.terminal import Terminal

if TYPE_CHECKING:
    import numpy as np

    from dreamerv2.common.config import Config
    from dreamerv2.common.envs.vector import VecEnv
    from dreamerv2.episode_video import Recorder
    from dreamerv2.loading import Run

# Where the run itself evaluates nothing, and says nothing about how many episodes suit it.
EPISODES = 10
FPS, ATARI_FPS = 20.0, 60.0


class _Parser(argparse.ArgumentParser):
    """Raises what is wrong as a sentence instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None, program: str = "python dreamerv2/evaluate.py") -> int:
    """Run the command line and return its exit status: 2 for bad input, 1 if it failed."""
    try:
        return evaluate(_parser(program).parse_args(argv))
    except (UserError, EnvError) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1


def evaluate(args: argparse.Namespace) -> int:
    """Do what the command line asks for and return the exit status."""
    path = pathlib.Path(args.logdir).expanduser()
    outdir = pathlib.Path(args.outdir).expanduser() if args.outdir else path / "evaluation"
    config = logdir.load_config(path)
    episodes = (config.eval_eps or EPISODES) if args.episodes is None else args.episodes
    if not episodes and not args.dream:
        raise UserError("--episodes is 0, which leaves nothing to do; use 1 or more, or --dream.")
    if not episodes and args.video:
        raise UserError("--video shows episodes, but --episodes is 0; use 1 or more.")
    envs = args.envs or max(1, min(config.envs, episodes))
    if episodes:
        # Importing TensorFlow takes seconds: not before the environment is known to be right.
        with _make_env(config, 0, 1) as env:
            _check_env(path, env, args.video)
    with quiet_start():
        from dreamerv2 import device, loading

        device.prepare_devices()
    changes = {} if args.noise is None else {"eval_noise": args.noise}
    run = loading.load_run(path, args.checkpoint, changes)
    logdir.check_links(path)
    try:
        outdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the folder {str(outdir)!r} cannot be made ({error.strerror}); name one that you may "
            "write to with --outdir."
        ) from None
    if not os.access(outdir, os.W_OK | os.X_OK):
        raise UserError(
            f"the folder {str(outdir)!r} cannot be written to; name another one with --outdir."
        )
    with Interrupt() as interrupt, Terminal() as terminal:
        terminal.print(
            f"{config.task} from {str(path)!r}: {run.checkpoint} after {run.frames:,} frames and "
            f"{run.updates:,} updates."
        )
        terminal.print(device.describe_device(config.precision, run.agent.jit))
        files = []
        if episodes:
            played = _play(run, args, episodes, envs, outdir, terminal, interrupt)
            if played is None:
                return 1
            files += played
        if args.dream:
            from dreamerv2 import dreams

            source = args.dream
            if source == "auto":
                source = "replay" if any(path.glob("replay/*")) else "episodes"
            files += dreams.write(run, outdir, source, say=terminal.print)
        names = ", ".join(str(file.relative_to(outdir)) for file in files)
        terminal.print(f"Wrote to {str(outdir)!r}: {names}.")
    return 0


def _parser(program: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program,
        description="Plays episodes with a trained agent and prints their scores. Needs nothing "
        "but the folder of the run, which may be in use by the training itself.",
        epilog=f"example: {program} --logdir ~/logdir/atari_pong/dreamerv2/1 --episodes 10 --video",
    )
    add = parser.add_argument
    add("--logdir", required=True, metavar="DIR", help="folder of the run")
    add("--outdir", metavar="DIR", help="where results go, replacing those that are there "
        "(default: evaluation in the logdir)")  # fmt: skip
    add("--episodes", type=number(int, 0), metavar="N", help="whole episodes to play "
        "(default: as many as an evaluation during training has, eval_eps)")  # fmt: skip
    add("--seed", type=number(int, 0), metavar="N", help="of environments and policy (default: "
        "that of the evaluation which the run makes at this step, so that with the other defaults "
        "its last score comes out again)")  # fmt: skip
    add("--envs", type=number(int, 1), metavar="N", help="environments played side by side; "
        "other numbers give other random numbers (default: envs of the run)")  # fmt: skip
    add("--noise", type=number(float, 0), metavar="X", help="noise added to actions: probability "
        "of a random choice, or std (default: eval_noise of the run)")  # fmt: skip
    add("--checkpoint", metavar="NAME", help="such as ckpt-12 (default: the newest that is whole)")
    add("--video", action="store_true", help="write the best, the median and the worst episode as "
        "MP4 and GIF; GIFs of long episodes leave frames out")  # fmt: skip
    add("--fps", type=number(float, 1), metavar="X", help="agent steps a second in the videos "
        "(default: real time for Atari, else 20; short episodes are slowed down)")  # fmt: skip
    add("--dream", nargs="?", const="auto", choices=("auto", "replay", "episodes"), help="write "
        "what the world model predicts open-loop, beside the truth: from the replay of the run, or "
        "from new episodes (auto, the default: from the replay if there is one)")  # fmt: skip
    return parser


def _play(
    run: Run,
    args: argparse.Namespace,
    episodes: int,
    envs: int,
    outdir: pathlib.Path,
    terminal: Terminal,
    interrupt: Interrupt,
) -> list[pathlib.Path] | None:
    """Play, print the scores and write them; None if a signal asked to stop."""
    from dreamerv2 import episode_video, evaluation, evaluation_report
    from dreamerv2.common.successes import Successes

    config = run.config
    seed = args.seed
    if seed is None:
        seed = evaluation.evaluation_seed(config, run.steps)
    metrics: list[Mapping[str, float]] = []
    successes = Successes(config.log_keys_success)
    steps, began = 0, time.monotonic()
    with contextlib.ExitStack() as stack:
        env = stack.enter_context(_make_env(config, seed, envs))
        recorder = None
        if args.video:
            recorder = stack.enter_context(episode_video.Recorder(_image_keys(env), outdir))
        bar = stack.enter_context(terminal.progress("Evaluate", episodes, "episodes"))

        def on_transition(transition: dict[str, np.ndarray], worker: int) -> None:
            nonlocal steps
            steps += not transition["is_first"]
            bar.update(len(metrics), f"{steps:,} agent steps")
            if recorder is not None:
                recorder.on_transition(transition, worker)

        def on_episode(episode: dict[str, np.ndarray], worker: int) -> None:
            metrics.append(evaluation.episode_metrics(config, episode, "eval"))
            successes.add(episode)
            terminal.print(
                f"Episode {len(metrics)}: return {metrics[-1]['eval_return']:,.6g}, "
                f"length {metrics[-1]['eval_length']:,.0f}"
            )
            if recorder is not None:
                recorder.on_episode(episode, worker)

        try:
            evaluation.evaluate(
                run.agent,
                env,
                episodes,
                seed,
                keep=evaluation.kept_keys(config),
                stop=lambda: interrupt.requested is not None,
                on_transition=on_transition,
                on_episode=on_episode,
            )
        except evaluation.Stopped:
            bar.close()
            terminal.print(f"Stopped after {len(metrics)} of {episodes} episodes; wrote nothing.")
            return None
        bar.update(len(metrics))
        bar.close()
        seconds = time.monotonic() - began
        summary = evaluation_report.summarize(metrics)
        terminal.print(evaluation_report.table(summary))
        rates = successes.metrics("eval")
        if rates:
            terminal.print(f"Score of the success rates: {rates['success_eval_score']:.2f} %")
        report = evaluation_report.report(
            summary,
            config,
            logdir.default_config(),
            logdir=run.path,
            checkpoint=run.checkpoint,
            steps=run.steps,
            updates=run.updates,
            seed=seed,
            envs=envs,
            seconds=seconds,
        )
        files = [evaluation_report.write_json(outdir / "evaluation.json", {**report, **rates})]
        if recorder is not None:
            files += _videos(recorder, run, outdir, args.fps, terminal)
    return files


def _videos(
    recorder: Recorder, run: Run, outdir: pathlib.Path, fps: float | None, terminal: Terminal
) -> list[pathlib.Path]:
    from dreamerv2 import episode_video

    config = run.config
    names = None
    if config.task.startswith("atari_"):
        from dreamerv2.play_keys import atari_names

        names = atari_names(config.task.partition("_")[2], config.atari_full_actions)
        fps = fps or ATARI_FPS / config.action_repeat
    total, done = episode_video.frames_to_encode(recorder), 0
    with terminal.progress("Videos", total, "frames") as bar:

        def progress(frames: int) -> None:
            nonlocal done
            done += frames
            bar.update(done)

        describe = episode_video.describe_action(run.act_space, names)
        return episode_video.write_videos(
            recorder, outdir, fps=fps or FPS, describe=describe, progress=progress
        )


def _make_env(config: Config, seed: int, num: int) -> VecEnv:
    from dreamerv2 import tasks

    return tasks.make_env(config, "eval", seed, num)


def _image_keys(env: VecEnv) -> list[str]:
    return [key for key, spec in env.obs_space.items() if spec.is_image]


def _check_env(path: pathlib.Path, env: VecEnv, video: bool) -> None:
    """Refuse an environment that is not the one of the run any more, or has nothing to see."""
    changes = logdir.space_changes(path, env.obs_space, env.act_space)
    if changes:
        raise UserError(
            f"the environment {env.name!r} is not what the agent in {str(path)!r} was trained on "
            f"(there -> here): {', '.join(changes)}; install the version of it used for training."
        )
    if video and not _image_keys(env):
        raise UserError(
            f"--video shows images, but the task {env.name!r} observes only "
            f"{', '.join(env.obs_space)}; leave out --video."
        )


if __name__ == "__main__":
    sys.exit(main())
