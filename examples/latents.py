# %% [markdown]
# # What does the agent remember?
#
# In `dummy_catch` a ball is shown in the first two observations, then it vanishes, and the paddle
# must be where it lands. Somewhere in the latent state there must be its column. We play episodes
# with a trained agent, infer the latent states, and read the column off with a linear map.
#
# Run it as a script, `python examples/latents.py --logdir ~/logdir/dummy_catch/dreamerv2/1`, or
# cell by cell in an editor that knows `# %%`.

# %%
import argparse
import pathlib

import numpy as np

import dreamerv2.api as dv2
from dreamerv2.common.envs.dummy import Catch

parser = argparse.ArgumentParser(description="Linear probes and a picture of latent states.")
parser.add_argument("--logdir", default="~/logdir/dummy_catch/dreamerv2/1")
parser.add_argument("--episodes", type=int, default=150)
parser.add_argument("--out", default="latents.png")
args, _ = parser.parse_known_args()  # Notebooks have arguments of their own.

policy = dv2.load(args.logdir)

# %% [markdown]
# ## Episodes, with the truth that the agent never sees
#
# `action[t]` is the action that led to observation t; nothing led to the first, so it is a 0.

# %%
env = Catch()
images, actions, columns = [], [], []
for episode in range(args.episodes):
    obs, _ = env.reset(seed=episode)
    policy.reset()
    images.append([obs])
    actions.append([0])
    columns.append(env._ball)
    done = False
    while not done:
        # Half of the actions at random, or the paddle would give the column away.
        action = policy.act(obs)
        if env.np_random.random() < 0.5:
            action = int(env.np_random.integers(3))
        obs, _, done, _, _ = env.step(action)
        images[-1].append(obs)
        actions[-1].append(action)

observations, taken, ball = np.array(images), np.array(actions), np.array(columns)
states = policy.model.observe(observations, taken)  # The real actions: (episodes, 11, ...).
feat = states["feat"]
print({key: value.shape for key, value in states.items()})

# %% [markdown]
# ## A linear probe for each step
#
# Fitted on one half of the episodes, tested on the other: ridge regression to one-hot columns. The
# pixels of the same step are the comparison: they show the ball in steps 0, 1 and 10 only.

# %%


def probe(inputs: np.ndarray, labels: np.ndarray, ridge: float = 1.0) -> float:
    """Return the share of the second half whose label a linear map of the first half finds."""
    half = len(inputs) // 2
    mean = inputs[:half].mean(0)
    x, rest = inputs[:half] - mean, inputs[half:] - mean
    targets = np.eye(Catch.CELLS)[labels[:half]]
    # Dual form: as many unknowns as episodes, however long the inputs are.
    weights = np.linalg.solve(x @ x.T + ridge * np.eye(half), targets - targets.mean(0))
    return float((((rest @ x.T) @ weights + targets.mean(0)).argmax(1) == labels[half:]).mean())


steps = observations.shape[1]
pixels = observations.reshape((len(observations), steps, -1)) / 255.0
from_latents = [probe(feat[:, t], ball) for t in range(steps)]
from_pixels = [probe(pixels[:, t], ball) for t in range(steps)]
print("step          ", *(f"{t:4d}" for t in range(steps)))
print("latents know  ", *(f"{score:4.0%}" for score in from_latents))
print("pixels show   ", *(f"{score:4.0%}" for score in from_pixels))

# %% [markdown]
# ## The two directions in which states differ most, and the probe

# %%
import matplotlib  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

flat = feat[:, 2:-1].reshape((-1, feat.shape[-1]))  # While the ball cannot be seen.
centred = flat - flat.mean(0)
_, spread, directions = np.linalg.svd(centred, full_matrices=False)
points = centred @ directions[:2].T
share = (spread**2 / (spread**2).sum())[:2]

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
dots = left.scatter(*points.T, c=np.repeat(ball, steps - 3), cmap="viridis", s=6)
left.set(
    xlabel=f"component 1 ({share[0]:.0%} of variance)",
    ylabel=f"component 2 ({share[1]:.0%})",
    title="Latent states while the ball is invisible",
)
figure.colorbar(dots, ax=left, label="column of the ball")
right.plot(from_latents, marker="o", label="latent state")
right.plot(from_pixels, marker="o", label="pixels of the step")
right.axhline(1 / Catch.CELLS, color="grey", linestyle=":", label="chance")
right.set(xlabel="step", ylabel="column found", ylim=(0, 1.05), title="Linear probes")
right.legend()
figure.tight_layout()
figure.savefig(args.out, dpi=120)
print(f"Wrote {pathlib.Path(args.out).resolve()}.")

# %% [markdown]
# ## How surprised is the model?
#
# The KL between posterior and prior, in nats: high where something is seen that could not be known.

# %%
print("surprise (nats)", *(f"{value:.1f}" for value in states["kl"].mean(0)))
