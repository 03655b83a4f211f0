"""Says how much the precision changes what a trained agent thinks of the same experience.

    python benchmarks/precision.py --logdir ~/logdir/atari_boxing/dreamerv2/1
    python benchmarks/precision.py --logdir ... --precision 16 --batch 64

The weights of the run's checkpoint are loaded twice, for float32 and for another precision. Both
infer the states of sequences of the run's replay; then both judge the very same imagined states,
those that float32 imagines from there. Prints JSON: for posterior, reward, discount, value and
advantage the mean and the standard deviation in float32, and the mean and the standard deviation of
the difference. The mean difference is the bias that an actor would learn from.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def sequences(run: Any, batch: int, seed: int) -> dict[str, Any]:
    """Return windows of the run's replay, ``(batch, T, ...)``."""
    import numpy as np

    from dreamerv2.common.errors import UserError
    from dreamerv2.common.replay_reader import ReplayReader

    length = run.config.dataset.length
    reader = ReplayReader(run.path / "replay")
    reader.require(run.obs_space, run.act_space)
    episodes = [episode for episode in reader.episodes if episode.length >= length]
    if not episodes:
        raise UserError(
            f"the replay of {str(run.path)!r} holds no {length} steps of one episode in a row; "
            "let the run collect more first."
        )
    random = np.random.default_rng(seed)
    windows = []
    for _ in range(batch):
        episode = episodes[random.integers(len(episodes))]
        start = episode.start + int(random.integers(episode.length - length + 1))
        windows.append(reader.window(episode.stream, start, length))
    return reader.read(windows, length)


def compared(exact: Any, other: Any) -> dict[str, float]:
    """Return what is known of two arrays of the same shape."""
    difference = other - exact
    return {
        "mean": float(exact.mean()),
        "std": float(exact.std()),
        "difference_mean": float(difference.mean()),
        "difference_std": float(difference.std()),
    }


def judge(agent: Any, feat: Any, known: Any) -> dict[str, Any]:
    """Return what an agent thinks of imagined states ``(H + 1, N, F)``, as float32 arrays."""
    import tensorflow as tf

    model, behavior = agent.world_model, agent.behavior
    feat = tf.cast(feat, model.rssm.compute_dtype)
    found = {"reward": model.heads["reward"].dist(feat).mode(), "discount": known}
    if "discount" in model.heads:
        found["discount"] = model.heads["discount"].dist(feat).mean()
    found["value"] = behavior.slow_critic.dist(feat).mode()
    found["advantage"] = behavior.target(found)[1:] - found["value"][:-2]
    return {name: value.numpy() for name, value in found.items()}


def measure(logdir: str, precision: str, batch: int, seed: int) -> dict[str, Any]:
    """Compare float32 with another precision."""
    import numpy as np
    import tensorflow as tf

    from dreamerv2.loading import load_run

    runs = {name: load_run(logdir, changes={"precision": name}) for name in (32, precision)}
    run = runs[32]
    data = {key: tf.constant(value) for key, value in sequences(run, batch, seed).items()}
    posts, logits = {}, {}
    for name, loaded in runs.items():
        model = loaded.agent.world_model
        seen = model.preprocess(data)
        embed = model.encoder(seen)
        posts[name], _ = model.rssm.observe(embed, seen["action"], seen["is_first"])
        logits[name] = posts[name].get("logit", posts[name].get("mean")).numpy()
    actor, horizon = run.agent.behavior.actor, run.config.imag_horizon
    stateless = tf.constant([seed, 0])
    seq = run.agent.world_model.imagine(actor, posts[32], data["is_terminal"], horizon, stateless)
    views = {
        name: judge(loaded.agent, seq["feat"], seq["discount"]) for name, loaded in runs.items()
    }
    names = ("reward", "discount", "value", "advantage")
    advantages = [np.ravel(views[name]["advantage"]) for name in runs]
    return {
        "run": run.config.task,
        "frames": run.frames,
        "precision": precision,
        "imagined_states": int(np.prod(views[32]["value"].shape)),
        "posterior": compared(logits[32], logits[precision]),
        **{name: compared(views[32][name], views[precision][name]) for name in names},
        "advantage_correlation": float(np.corrcoef(advantages)[0, 1]),
    }


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--logdir", required=True, help="Folder of a run with its replay.")
    parser.add_argument("--precision", default="bfloat16", choices=("16", "bfloat16"))
    parser.add_argument("--batch", type=int, default=16, help="Sequences.")
    parser.add_argument("--seed", type=int, default=0, help="Of the sequences and latents.")
    args = parser.parse_args()

    from dreamerv2.common.errors import UserError
    from dreamerv2.common.quiet import quiet_start

    precision = 16 if args.precision == "16" else args.precision
    try:
        with quiet_start():
            result = measure(args.logdir, precision, args.batch, args.seed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
