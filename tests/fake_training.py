"""Stands in for the training program where only its manners matter: it starts at once.

It has the manners of the real one: a lock on its folder, metrics, a checkpoint now and then, a
save on SIGTERM, exit status 0 also then. `history.txt` tells what happened, for tests.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pathlib
import signal
import sys
import time


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--logdir", type=pathlib.Path)
    parser.add_argument("--task")
    parser.add_argument("--seed")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--tick", type=float, default=0.02)
    parser.add_argument("--fail", default="")
    args = parser.parse_args()
    if "TF_CONFIG" in os.environ:
        print("error: this would wait for other workers", file=sys.stderr)
        return 2
    logdir = args.logdir
    lock = open(logdir / "lock", "a+")  # noqa: SIM115
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("error: logdir is in use", file=sys.stderr)
        return 2
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    checkpoint, told = logdir / "checkpoint.txt", logdir / "history.txt"
    # One line is written as a whole, so what is told of a save and the save are one thing.
    lines = told.read_text().splitlines() if told.exists() else []
    step = max((int(line.split()[1]) for line in lines if line.startswith("save")), default=0)

    def note(text: str) -> None:
        with open(told, "a") as file:
            file.write(f"{text} {step} {os.getpid()} {time.time():.3f}\n")

    def save() -> None:
        temporary = logdir / "checkpoint.new"
        temporary.write_text(str(step))
        temporary.replace(checkpoint)
        note("save")

    (logdir / "config.yaml").write_text(f"task: {args.task}\nseed: {args.seed}\n")
    note("begin")
    while step < args.steps and not stopped:
        time.sleep(args.tick)
        step += 1
        if step % 5 == 0:
            row = {"step": step * 4, "eval_return": step / 2, "fps": 4 / args.tick}
            with open(logdir / "metrics.jsonl", "a") as file:
                file.write(json.dumps(row) + "\n")
        if step % 10 == 0:
            save()
        if args.fail and step == 15:
            print(f"Traceback of process {os.getpid()}\nValueError: {args.fail} {os.getpid()}")
            note("fail")
            return 1
    save()
    note("end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
