"""Measures the parts of an update beside their arithmetic; prints a table or JSON.

    python benchmarks/profile.py --configs atari
    python benchmarks/profile.py --configs atari precision=bfloat16
    python benchmarks/profile.py --configs dmc_proprio --repeats 3 --json

Each part is compiled by itself, on random data of the shapes that it sees in training, and timed
forward, and forward with gradients; the difference is its backward time. The rate of the best
matrix product of the same type in the same process is the peak that a part can reach. What the sum
of the parts lacks of the whole update is in the last line: losses, metrics, sampling and copies,
less what overlaps in the whole update.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

if not __package__:  # As a script: this folder must not hide the standard library's `profile`.
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from benchmarks import arithmetic


class Part(NamedTuple):
    """A function of tensors, and its floating point operations.

    Attributes:
        name: What the table calls it.
        function: Returns a tensor or a structure of tensors.
        inputs: What the function is called with.
        variables: Weights whose gradients are taken; None where there is no backward pass.
        sources: Inputs, by position, whose gradients are taken, too.
        forward: Operations forward.
        backward: Operations backward.
    """

    name: str
    function: Callable[..., Any]
    inputs: tuple[Any, ...]
    variables: Sequence[Any] | None
    sources: tuple[int, ...]
    forward: float
    backward: float


def parts(agent: Any, config: Any, data: Any, flop: dict[str, int], through: bool) -> list[Part]:
    """Return the parts of an update in their order; `flop` is per state and part."""
    import tensorflow as tf

    model, behavior = agent.world_model, agent.behavior
    states, horizon = config.dataset.batch * config.dataset.length, config.imag_horizon
    seed = tf.constant([0, 1])
    data = model.preprocess(data)
    embed = model.encoder(data)
    action, first, ends = (tf.constant(data[k]) for k in ("action", "is_first", "is_terminal"))
    post, _ = model.rssm.observe(embed, action, first, None, seed)
    feat = model.rssm.get_feat(post)
    shape = [horizon + 1, states]
    seen = tf.cast(tf.random.normal([*shape, feat.shape[-1]]), feat.dtype)
    scores = tf.random.normal(shape)
    chosen = behavior.actor.dist(seen).mode()
    recurrent = flop["step"] + flop["posterior"] + flop["prior"]
    seq = {"feat": seen, "action": chosen, "reward": scores, "discount": tf.ones(shape),
           "weight": tf.ones(shape), "value": scores}  # fmt: skip
    observed = {k: data[k] for k in {**_shapes(model.decoder), **_shapes(model.encoder)}}

    def log_probs(feat: Any) -> Any:
        return {k: dist.log_prob(data[k]) for k, dist in model.decoder.dist(feat).items()}

    def observe(embed: Any) -> Any:
        return model.rssm.observe(embed, action, first, None, seed)

    def imagine(start: Any) -> Any:
        seq = model.imagine(behavior.actor, start, ends, horizon, seed)
        return seq["feat"]  # The heads are not computed for that.

    def learned(name: str, head: Any) -> Part:
        count = flop[name] * states
        call = lambda feat: head.dist(feat).log_prob(data[name])  # noqa: E731
        return Part(f"{name} head", call, (feat,), head.trainable_variables, (0,), count, 2 * count)

    def judged(name: str, head: Any, count: int) -> Part:
        backward = 2 * count * (horizon + 1) * states * through
        sources, variables = ((0,), []) if through else ((), None)
        call = lambda feat: head.dist(feat).mean()  # noqa: E731
        forward = count * (horizon + 1) * states
        return Part(f"imagined {name}", call, (seen,), variables, sources, forward, backward)

    imagined = horizon * states * (flop["step"] + flop["prior"] + flop["actor"])
    acting = behavior.actor.trainable_variables if through else None
    critic = behavior.slow_critic
    actor_count = (horizon - 1) * states * flop["actor"]
    critic_count = horizon * states * flop["critic"]
    start = {key: post[key] for key in ("stoch", "deter")}

    def actor_loss(feat: Any) -> Any:
        return behavior.actor_loss({**seq, "feat": feat}, scores[:-1], tf.constant(0))[0]

    def critic_loss(feat: Any) -> Any:
        return behavior.critic_loss({**seq, "feat": feat}, scores[:-1])[0]

    result = [
        Part("encoder", model.encoder, (observed,), model.encoder.trainable_variables, (),
             flop["encoder"] * states, 2 * flop["encoder"] * states),
        Part("recurrent model", observe, (embed,), model.rssm.trainable_variables, (0,),
             recurrent * states, 2 * recurrent * states),
        Part("decoder", log_probs, (feat,), model.decoder.trainable_variables, (0,),
             flop["decoder"] * states, 2 * flop["decoder"] * states),
        *(learned(name, head) for name, head in model.heads.items()),
        Part("imagination", imagine, (start,), acting, (), imagined, 2 * imagined * through),
        *(judged(name, head, flop[name]) for name, head in model.heads.items()),
        judged("value", critic, flop["critic"]),
        Part("actor loss", actor_loss, (seen,), behavior.actor.trainable_variables, (),
             actor_count, 2 * actor_count),
        Part("critic loss", critic_loss, (seen,), behavior.critic.trainable_variables, (),
             critic_count, 2 * critic_count),
    ]  # fmt: skip
    optimizers = {"model": model.optimizer, **behavior.optimizers}
    for name, optimizer in optimizers.items():
        grads = [tf.random.normal(v.shape) for v in optimizer._variables]
        norm = lambda *g, o=optimizer: o._step(list(g), tf.linalg.global_norm(g))  # noqa: E731
        result.append(Part(f"{name} optimizer", norm, tuple(grads), None, (), 0, 0))
    return result


def _shapes(module: Any) -> dict[str, None]:
    return dict.fromkeys([*module.cnn_keys, *module.mlp_keys])


def seconds(function: Callable[..., Any], inputs: tuple[Any, ...], repeats: int) -> float:
    """Compile and call a function of tensors, and return its median time."""
    import tensorflow as tf

    compiled = tf.function(function, autograph=False)
    times = []
    for index in range(repeats + 2):
        begin = time.perf_counter()
        compiled(*inputs)  # On a CPU a call returns when the result is there.
        if index > 1:
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


def measure(part: Part, repeats: int) -> dict[str, Any]:
    """Return the operations and times of a part."""
    import tensorflow as tf

    def both(*inputs: Any) -> Any:
        with tf.GradientTape() as tape:
            sources = [inputs[i] for i in part.sources]
            tape.watch(sources)
            output = part.function(*inputs)
        values = [variable.value for variable in part.variables or ()]
        floats = [x for x in tf.nest.flatten(output) if x.dtype.is_floating]
        return tape.gradient(floats, [values, sources])

    forward = seconds(part.function, part.inputs, repeats)
    result = {"part": part.name, "gflop_forward": part.forward / 1e9, "ms_forward": 1e3 * forward}
    if part.variables is None:
        return {**result, "gflop_backward": 0.0, "ms_backward": 0.0}
    backward = max(0.0, seconds(both, part.inputs, repeats) - forward)
    return {**result, "gflop_backward": part.backward / 1e9, "ms_backward": 1e3 * backward}


def profile(config: Any, repeats: int) -> dict[str, Any]:
    """Measure all parts, the whole update and the peak, in this process."""
    import tensorflow as tf

    from dreamerv2 import tasks
    from dreamerv2.agent import Agent

    tf.get_logger().setLevel("ERROR")  # Each part is a function of its own: no retracing.
    with tasks.make_env(config, "eval", 0) as env:
        obs_space, act_space = env.obs_space, env.act_space
    agent = Agent(config, obs_space, act_space, config.seed)
    data = arithmetic.random_batch(config, obs_space, act_space)
    images = [spec.shape[:2] for spec in obs_space.values() if spec.is_image]
    counts = arithmetic.products(agent, images[0] if images else (1, 1))
    through = arithmetic.through_model(config, act_space)
    flop = {name: 2 * count for name, count in counts.items()}
    compute = agent.world_model.rssm.compute_dtype
    peaks = arithmetic.matmul_seconds(compute)
    rows = [measure(p, repeats) for p in parts(agent, config, data, flop, through)]
    times = []
    for _ in range(repeats + 2):
        begin = time.perf_counter()
        agent.train(data, 0)[1]["model_loss"].numpy()
        times.append(time.perf_counter() - begin)
    peak = 2 * arithmetic.SIDE**3 / min([*peaks, *arithmetic.matmul_seconds(compute)])
    update = statistics.median(times[2:])
    total = arithmetic.update_flop(counts, config, through)
    return {
        "parts": rows,
        "peak_gflops": peak / 1e9,
        "update_ms": 1e3 * update,
        "update_gflop": total / 1e9,
        "of_peak": total / update / peak,
    }


def table(result: dict[str, Any]) -> str:
    """Return the Markdown table of a profile."""
    peak = result["peak_gflops"]

    def cells(gflop: float, ms: float) -> str:
        share = f"{1e3 * gflop / ms / peak:.0%}" if gflop and ms else ""
        return f"{gflop:.1f} | {ms:.1f} | {share}" if ms else " | | "

    lines = [
        "| Part | GFLOP forward | ms | of the peak | GFLOP backward | ms | of the peak |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["parts"]:
        forward = cells(row["gflop_forward"], row["ms_forward"])
        backward = cells(row["gflop_backward"], row["ms_backward"])
        lines.append(f"| {row['part']} | {forward} | {backward} |")
    summed = sum(row["ms_forward"] + row["ms_backward"] for row in result["parts"])
    lines += [
        "",
        f"Whole update: {result['update_ms']:.0f} ms for {result['update_gflop']:.0f} GFLOP, "
        f"{result['of_peak']:.0%} of the peak of {peak:.0f} GFLOP/s; the parts sum to "
        f"{summed:.0f} ms, the rest is {result['update_ms'] - summed:.0f} ms.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--configs", nargs="*", default=["atari"], help="Names, and key=value.")
    parser.add_argument("--repeats", type=int, default=5, help="Calls timed per part.")
    parser.add_argument("--json", action="store_true", help="Print JSON instead of the table.")
    args = parser.parse_args()

    from dreamerv2.common.quiet import quiet_start

    config = arithmetic.configuration(args.configs)
    with quiet_start():
        result = profile(config, args.repeats)
    print(json.dumps(result, indent=2) if args.json else table(result))


if __name__ == "__main__":
    main()
