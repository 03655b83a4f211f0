"""Trains many agents: tasks times methods times seeds, on all machines of a Ray cluster.

    python dreamerv2/sweep.py --tasks atari55 --seeds 5 --configs atari --logdir DIR --address auto

Each run is the training program in a folder of its own, DIR/task/method/seed, on storage that all
machines share. Running the same command again continues the sweep.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import pathlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

if not __package__:  # Started as a script: import this checkout, not files beside the script.
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from dreamerv2.common.arguments import number
from dreamerv2.common.errors import UserError
from dreamerv2.common.signals import Interrupt

if TYPE_CHECKING:
    from dreamerv2.sweeps.driver import Driver
    from dreamerv2.sweeps.lease import Lease
    from dreamerv2.sweeps.plan import Run
    from dreamerv2.sweeps.table import Screen

# A rate that a GPU may sustain, to give the number of operations a meaning for people.
TFLOPS = 10.0

_TICK = 1.0
_SHOW = 5.0


class _Parser(argparse.ArgumentParser):
    """Raises what is wrong as a sentence instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None, program: str = "python dreamerv2/sweep.py") -> int:
    """Run the command line and return its exit status.

    0 if all runs are complete, 1 if the sweep was stopped or runs were given up, 2 for bad input.
    """
    try:
        own, settings = _split(sys.argv[1:] if argv is None else argv)
        args = _parser(program).parse_args(own)
        return sweep(args, settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def sweep(args: argparse.Namespace, settings: Sequence[str]) -> int:
    """Do what the command line asks for and return the exit status."""
    from dreamerv2.sweeps import describe, plan

    folder = pathlib.Path(os.path.abspath(pathlib.Path(args.logdir).expanduser()))
    if args.status:
        return _print_status(folder)
    if not args.tasks:
        raise UserError("--tasks is missing; name tasks or a list of them, such as atari55")
    from dreamerv2.common import score_data

    runs = plan.make(
        folder,
        plan.find_tasks(_words(args.tasks), score_data.load()),
        plan.find_seeds(_words(args.seeds)),
        _words(args.configs),
        _words(args.variants),
        args.method,
        settings,
    )
    if args.dry_run:
        print("\n".join(describe.describe(runs, args.tflops)))
        return 0
    # Not `KeyboardInterrupt`, which may strike inside of Ray and be lost there.
    with Interrupt() as interrupt:
        return _run(args, runs, folder, interrupt)


def _run(
    args: argparse.Namespace, runs: Sequence[Run], folder: pathlib.Path, interrupt: Interrupt
) -> int:
    """Connect to Ray, make sure that everything is as it must be, and run the sweep."""
    from dreamerv2.sweeps import driver, files, ray_pool, status

    with ray_pool.RayPool(args.address, args.gpus_per_run, args.cpus_per_run) as pool:
        pool.check_storage(folder)
        lease = _acquire(folder, interrupt)
        if lease is None:
            print("Stopped before any run was started.")
            return 1
        try:
            status.write_plan(folder, runs)
            environment = {} if pool.gpus else _cores_only(pool.cpus)
            events = files.Events(folder)
            events("start", runs=len(runs), slots=pool.slots(), gpus_per_run=pool.gpus)
            work = driver.Driver(
                runs, pool, events, most=args.max_parallel, environment=environment
            )
            each = f"{pool.gpus:g} GPUs" if pool.gpus else f"{pool.cpus:g} CPU cores, no GPU"
            print(f"{len(runs)} runs in {folder}, each with {each}; room for {pool.slots()} now.")
            return _drive(work, folder, lease, events)
        finally:
            lease.release()


def _cores_only(cpus: float) -> dict[str, str]:
    """Keep runs that share a machine from computing with all of its cores each, or its GPUs."""
    count = str(max(1, round(cpus)))
    threads = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    return {**dict.fromkeys(threads, count), "CUDA_VISIBLE_DEVICES": "-1"}


def _acquire(folder: pathlib.Path, interrupt: Interrupt) -> Lease | None:
    """Make sure that no other sweep works on the folder; None if interrupted meanwhile."""
    from dreamerv2.sweeps import files
    from dreamerv2.sweeps.lease import Lease, Timing, clock

    # No fence: what two sweeps must not do at once, each run has a lease of its own against.
    timing = Timing(fence=math.inf)
    lease = Lease(folder / files.FOLDER, timing)
    begin, beats, told = clock(), set(), False
    while interrupt.requested is None:
        if lease.acquire():
            return lease
        holder = lease.holder
        beats.add(holder.get("beat"))
        if len(beats) > 1 or clock() - begin > 2 * timing.expire:
            raise UserError(
                f"a sweep is running in {str(folder)!r}, by process "
                f"{holder['processes'][0][0]} on {holder['host']}; look at it with --status, or "
                "stop it first"
            )
        if clock() - begin > 3 and not told:
            print("Waiting to see whether another sweep is still running in this folder.")
            told = True
        time.sleep(0.5)
    return None


def _drive(work: Driver, folder: pathlib.Path, lease: Lease, events: Callable[..., None]) -> int:
    """Step the sweep until it is finished or was stopped."""
    from dreamerv2.sweeps import files
    from dreamerv2.sweeps.lease import LeaseLost
    from dreamerv2.sweeps.table import Screen

    states = Counter(entry.state for entry in work.entries)
    log = folder / files.FOLDER / "ray.log"
    with contextlib.ExitStack() as stack:
        # Once more, since Ray has handlers of its own. It also prints whatever its machines say.
        interrupt = stack.enter_context(Interrupt())
        screen = stack.enter_context(Screen(sys.stdout))
        stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(log, "a"))))
        if states["done"]:
            screen.print(f"{states['done']} of them are complete already.")
        shown = -_SHOW
        while not work.finished:
            if interrupt.requested is not None and not work.stopping:
                screen.print("Stopping: every run saves; once more ends this at once.")
                work.stop()
            try:
                lease.beat()
            except LeaseLost as error:
                raise UserError(
                    f"this sweep ends, because {error}; its runs save, and the same command "
                    "continues it"
                ) from None
            work.step()
            _tell(work, screen)
            if time.monotonic() - shown >= _SHOW:
                shown = time.monotonic()
                _show(screen, folder)
            time.sleep(_TICK)
        _show(screen, folder, force=True)
    states = Counter(entry.state for entry in work.entries)
    complete, failed = states["done"] == len(work.entries), states["failed"]
    events("end", done=states["done"], failed=failed, waiting=states["waiting"])
    if work.stopping and not complete:
        print("Stopped, and every run is saved; run the same command to continue.")
    elif failed:
        print(f"{failed} runs were given up; mend what is wrong and run the same command again.")
    else:
        print(f"All runs are complete: python common/scores.py table1 --indir {folder}")
    return 0 if complete else 1


def _show(screen: Screen, folder: pathlib.Path, force: bool = False) -> None:
    from dreamerv2.sweeps import status

    screen.show(status.read_sweep(folder), force)


def _tell(work: Driver, screen: Screen) -> None:
    """Print what went wrong with runs, each time once."""
    for entry in work.entries:
        if entry.news:
            entry.news = False
            then = "given up" if entry.state == "failed" else "starts again"
            screen.print(f"{entry.run.name} {then}: {entry.note}")
            for text in entry.lines if entry.state == "failed" else ():
                screen.print(f"    {text}")


def _print_status(folder: pathlib.Path) -> int:
    from dreamerv2.sweeps import status, table

    statuses = status.read_sweep(folder)
    console = table.Screen(sys.stdout).console
    if not console.is_terminal:
        console.width = 160
    console.print(table.render(statuses))
    for text in [*table.problems(statuses), table.line(status.summarize(statuses))]:
        console.print(text, soft_wrap=True)
    return 0


def _words(values: Sequence[str]) -> list[str]:
    """Arguments, which may be several words joined by commas."""
    return [word for value in values for word in value.split(",") if word]


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide arguments into those of this program and those for the training program."""
    parts: tuple[list[str], list[str]] = ([], [])
    known = {text for action in _parser("")._actions for text in action.option_strings}
    current = parts[0]
    for word in argv:
        if word.startswith("-") and not word.lstrip("-")[:1].isdigit():
            current = parts[0] if word.partition("=")[0] in known else parts[1]
        current.append(word)
    return parts


def _parser(program: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program,
        allow_abbrev=False,
        description="Trains on many tasks with many seeds, on all machines of a Ray cluster. "
        "Every other flag is one of the training program: --steps 1e6, for example.",
    )
    add = parser.add_argument
    add("--logdir", required=True, metavar="DIR", help="folder on storage that all machines share")
    add("--tasks", nargs="+", default=[], metavar="TASK",
        help="names, lists (atari55, atari26, dmc22), or regular expressions")  # fmt: skip
    add("--seeds", nargs="+", default=["1"], metavar="N",
        help="5 for the seeds 1 to 5, a range such as 6-10, or several (default: 1)")  # fmt: skip
    add("--configs", nargs="+", default=[], metavar="NAME",
        help="named configurations of all runs")  # fmt: skip
    add("--variants", nargs="+", default=["none"], metavar="NAME",
        help="further named configurations, each a method of its own; several are joined by +, "
        "none is the agent without one (default: none)")  # fmt: skip
    add("--method", default="dreamerv2", metavar="NAME",
        help="name in folders, tables and figures (default: dreamerv2)")  # fmt: skip
    add("--address", metavar="ADDRESS",
        help="of the Ray cluster: auto, or host:port (default: this machine alone)")  # fmt: skip
    add("--gpus-per-run", type=number(float, 0), metavar="N",
        help="may be a fraction (default: 1 where there are GPUs, else 0)")  # fmt: skip
    add("--cpus-per-run", type=number(float, 0), default=1.0, metavar="N", help="default: 1")
    add("--max-parallel", type=number(int, 1), metavar="N",
        help="runs at the same time (default: as many as fit)")  # fmt: skip
    add("--tflops", type=number(float, 1e-9), default=TFLOPS, metavar="N",
        help=f"rate of a GPU for the GPU days of --dry-run (default: {TFLOPS:g})")  # fmt: skip
    add("--dry-run", action="store_true", help="print the plan and what it takes, and end")
    add("--status", action="store_true", help="print where the sweep in DIR stands, and end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
