"""Says in words what a sweep will do and what that takes."""

from __future__ import annotations

from collections.abc import Sequence

from dreamerv2.sweeps import cost
from dreamerv2.sweeps.plan import Run


def describe(runs: Sequence[Run], tflops: float) -> list[str]:
    """Return the plan and what it takes, as lines.

    Args:
        runs: Of the sweep.
        tflops: 1e12 operations a second that a GPU is assumed to sustain.
    """
    methods = dict.fromkeys(run.method for run in runs)
    tasks = dict.fromkeys(run.task for run in runs)
    seeds = dict.fromkeys(run.seed for run in runs)
    result = [
        f"{len(runs)} runs: {len(tasks)} tasks x {len(methods)} methods x {len(seeds)} seeds",
        f"tasks: {', '.join(tasks)}",
        f"seeds: {', '.join(map(str, seeds))}",
        "",
    ]
    for method in methods:
        group = [run for run in runs if run.method == method]
        days, disk, unknown = cost.total([run.cost for run in group], tflops)
        first = group[0]
        frames = f"{first.frames:,} frames" + (" each" if len(group) > 1 else "")
        result += [
            f"{method}: {len(group)} runs, {frames}, {_days(days, unknown, len(group))}, "
            f"{disk / 1e9:,.1f} GB of disk",
            f"  {first.logdir}: train.py {' '.join(first.arguments)}",
        ]
    days, disk, unknown = cost.total([run.cost for run in runs], tflops)
    result += ["", f"in all {_days(days, unknown, len(runs))}, {disk / 1e9:,.1f} GB of disk"]
    if unknown < len(runs):
        result.append(
            f"GPU days: operations counted by benchmarks/cost.py at {tflops:g} TFLOP/s, which is "
            "an assumption (--tflops); acting and the environment come on top"
        )
    return result


def _days(days: float, unknown: int, count: int) -> str:
    if unknown == count:
        return "GPU days not known, as nothing of this size was measured"
    return f"{days:,.1f} GPU days" + (f" and {unknown} runs of unknown cost" if unknown else "")
