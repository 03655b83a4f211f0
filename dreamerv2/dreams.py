"""Open-loop predictions of a trained world model as files: videos, strips, curves and numbers.

The model sees the first steps of a sequence, then predicts the rest from the actions alone:

    step          0 ... c-1                       c ... T-1
    state         posterior, from observations    prior, from the actions
    shown         reconstruction of step t        prediction of step t, compared with truth t
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from dreamerv2 import dream_errors, dream_figures, dream_windows
from dreamerv2.common import plot_style
from dreamerv2.common.errors import UserError
from dreamerv2.common.overlay import overlay
from dreamerv2.common.video import save_gif
from dreamerv2.common.video_mp4 import save_mp4
from dreamerv2.dream_windows import Say, Windows
from dreamerv2.loading import Run
from dreamerv2.world_model import Data, WorldModel

SOURCES = ("replay", "episodes")
FORMATS = ("png", "pdf")
REWARD_SUM = "sum of rewards"
DPI = 200
# Windows predicted at once.
BATCH = 8
# Pixels that the larger side of a video is enlarged to, at least nearly.
VIDEO_SIZE = 640

Predict = Callable[[Data, tf.Tensor | None], tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]]


@dataclasses.dataclass(frozen=True)
class Dreams:
    """What came out of predicting some windows.

    Attributes:
        windows: What was predicted.
        measures: Errors of each decoded key, of the reward, and of the sum of rewards.
        shown: For each decoded key and the reward the truth and the prediction, ``(N, T, ...)``
            each, of some windows.
    """

    windows: Windows
    measures: dict[str, dream_errors.Measure]
    shown: dict[str, tuple[np.ndarray, np.ndarray]]


def write(
    run: Run,
    folder: str | os.PathLike[str],
    source: str = "replay",
    *,
    windows: int = 256,
    examples: int = 3,
    context: int = 5,
    horizon: int = 45,
    seed: int = 0,
    fps: float = 10,
    say: Say = print,
) -> list[pathlib.Path]:
    """Write what the world model of a run predicts, and how wrong that is.

    For every image key that the model decodes, `dream_<key>` as GIF, MP4, PNG and PDF: truth
    above model above error for some sequences. For every vector key, and for the reward, a plot
    of truth and prediction over time, `dream_<key>.png`. For all of them together
    `error_growth.png`, `.pdf` and `.json`: the mean error at each step since the last observation,
    with bootstrap confidence intervals, beside that of the posterior (a floor: it sees every
    observation) and of trivial predictions.

    A sequence lies inside one episode; where most episodes are shorter than it, it is shortened.

    Args:
        run: Trained agent; its weights do not change.
        folder: Where to write; created if missing.
        source: ``replay`` of the run, which the model was trained on, is only read and may be in
            use; or fresh ``episodes`` that the agent plays now.
        windows: Most sequences that errors are averaged over.
        examples: Most sequences that are shown; they are the first of those, drawn at random.
        context: Agent steps that the model observes.
        horizon: Agent steps that it then predicts.
        seed: Of the choice of sequences and of the latents.
        fps: Agent steps a second in videos.
        say: Receives sentences about what is going on and what differs from what was asked for.

    Returns:
        The files written.

    Raises:
        UserError: An argument is out of its range, there is no replay, no episode is long enough,
            or a file can't be written.
    """
    _check(source, windows=windows, examples=examples, context=context, horizon=horizon)
    choice: dict[str, Any] = {
        "context": context, "horizon": horizon, "count": windows, "seed": seed,
    }  # fmt: skip
    if source == "replay":
        chosen = dream_windows.from_replay(run.path / "replay", **choice, run=run)
    else:
        chosen = dream_windows.from_episodes(run, **choice, say=say)
    for note in chosen.notes:
        say(note)
    predict = make_predict(run.agent.world_model, chosen.context, run.agent.jit != "off")
    dreams = measure(run.agent.world_model, predict, chosen, examples, seed)
    path = pathlib.Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        files = _write_examples(run, path, dreams, fps)
        return files + _write_errors(run, path, dreams, source, seed)
    except OSError as error:
        raise UserError(
            f"dreams can't be written to {str(path)!r} ({error.strerror}); choose another folder."
        ) from error


def make_predict(model: WorldModel, context: int, compiled: bool) -> Predict:
    """Return a function that predicts windows ``(B, T, ...)``, given a seed or None for modes.

    Its results are open-loop predictions and reconstructions from all observations, which are the
    same during the context: for each decoded key, and for `reward`, float32 ``(B, T, ...)`` means.
    Pixels are in [0, 1].
    """

    def decode(states: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        feat = model.rssm.get_feat(states)
        means = dict(model.decoder(feat))
        for key in model.decoder.cnn_keys:
            means[key] = tf.clip_by_value(means[key] + 0.5, 0.0, 1.0)
        means["reward"] = model.heads["reward"].dist(feat).mean()
        return means

    def predict(
        data: Data, seed: tf.Tensor | None
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        data = model.preprocess(data)
        seeds = [None, None] if seed is None else tf.unstack(tfp.random.split_seed(seed, 2))
        action = data["action"]
        states, _ = model.rssm.observe(
            model.encoder(data), action, data["is_first"], None, seeds[0]
        )
        last = {key: value[:, context - 1] for key, value in states.items()}
        later = model.rssm.imagine(action[:, context:], last, seeds[1])
        opened = {
            key: tf.concat([value[:, :context], later[key]], 1) for key, value in states.items()
        }
        return decode(opened), decode(states)

    return tf.function(predict, autograph=False) if compiled else predict


def measure(
    model: WorldModel, predict: Predict, windows: Windows, examples: int, seed: int
) -> Dreams:
    """Predict all windows, a few at a time, and keep the predictions of some examples."""
    decoded = [*model.decoder.cnn_keys, *model.decoder.mlp_keys]
    # Rewards as the model learns them.
    reward = model.preprocess(windows.data)["reward"].numpy()
    truths = {**{key: windows.data[key] for key in decoded}, "reward": reward}
    measures = {key: dream_errors.Measure(truth, windows.context) for key, truth in truths.items()}
    total = dream_errors.Measure(dream_errors.sums(reward, windows.context), windows.context, True)
    shown: dict[str, list[np.ndarray]] = {key: [] for key in truths}
    for start in range(0, len(windows), BATCH):
        part = slice(start, start + BATCH)
        batch = {key: tf.constant(value[part]) for key, value in windows.data.items()}
        opened, closed = predict(batch, tf.constant([seed, start]))
        for key, truth in truths.items():
            prediction = opened[key].numpy()
            measures[key].add(truth[part], prediction, closed[key].numpy())
            if key == "reward":
                values = truth[part], prediction, closed[key].numpy()
                total.add(*[dream_errors.sums(x, windows.context) for x in values])
            shown[key].append(prediction[: max(0, examples - start)])
    pairs = {}
    for key, parts in shown.items():
        prediction = np.concatenate(parts)
        if truths[key].dtype == np.uint8:
            prediction = np.round(255 * prediction).astype(np.uint8)
        pairs[key] = truths[key][: len(prediction)], prediction
    return Dreams(windows, {**measures, REWARD_SUM: total}, pairs)


def _write_examples(
    run: Run, folder: pathlib.Path, dreams: Dreams, fps: float
) -> list[pathlib.Path]:
    files = []
    context = dreams.windows.context
    for key, (truth, prediction) in dreams.shown.items():
        path = folder / f"dream_{key.replace('/', '.')}"
        if truth.dtype == np.uint8:
            frames = dream_figures.video(truth, prediction)
            frames = overlay(frames, _captions(dreams.windows), VIDEO_SIZE)
            files += [path.with_name(path.name + ending) for ending in (".gif", ".mp4")]
            save_gif(files[-2], frames, fps)
            save_mp4(files[-1], frames, fps)
            figure, dpi = dream_figures.strip(truth, prediction, context)
        else:
            scale = np.reshape(dreams.measures[key].scale, -1)
            if truth.ndim == 2:
                truth, prediction = truth[..., None], prediction[..., None]
            title = _title(run, key)
            figure = dream_figures.timeline(title, truth, prediction, context, scale)
            dpi = DPI
        files += plot_style.save(figure, path, FORMATS, dpi)
    return files


def _write_errors(
    run: Run, folder: pathlib.Path, dreams: Dreams, source: str, seed: int
) -> list[pathlib.Path]:
    windows = dreams.windows
    curves = {
        key: dream_errors.curves(measure.errors(), windows.groups, seed)
        for key, measure in dreams.measures.items()
    }
    units = {key: _unit(key, dreams) for key in curves}
    panels = [
        dream_figures.Panel(_title(run, key), units[key].split(",")[0], curve)
        for key, curve in curves.items()
    ]
    path = folder / "error_growth"
    figure = dream_figures.errors(panels, windows.context)
    files = plot_style.save(figure, path, FORMATS, DPI)
    numbers = {
        "task": run.config.task,
        "checkpoint": run.checkpoint,
        "frames": run.frames,
        "source": source,
        "seed": seed,
        "windows": len(windows),
        "episodes": len(np.unique(windows.groups)),
        "context": windows.context,
        "horizon": windows.horizon,
        "notes": windows.notes,
        "confidence": dream_errors.CONFIDENCE,
        "errors": {
            key: {"unit": units[key], **dream_errors.describe(curve, windows.context)}
            for key, curve in curves.items()
        },
    }
    text = json.dumps(numbers, indent=1) + "\n"
    return [*files, plot_style.save_text(text, path.with_suffix(".json"))]


def _captions(windows: Windows) -> list[list[str]]:
    kinds = ["context"] * windows.context + ["imagined"] * windows.horizon
    rows = ", ".join(dream_figures.ROWS)
    return [[f"step {t}: {kind} ({rows} from top to bottom)"] for t, kind in enumerate(kinds)]


def _title(run: Run, key: str) -> str:
    clip = run.config.clip_rewards
    if clip == "identity":
        return key
    return {"reward": f"{clip}(reward)", REWARD_SUM: f"sum of {clip}(reward)"}.get(key, key)


def _unit(key: str, dreams: Dreams) -> str:
    if key == REWARD_SUM:
        return "squared error, of the sum since the last observation"
    truth, _ = dreams.shown[key]
    if truth.dtype == np.uint8:
        return "squared error, mean over pixels in [0, 1]"
    if truth.ndim == 3:
        return "squared error / variance, mean over dimensions"
    return "squared error"


def _check(source: str, **counts: int) -> None:
    if source not in SOURCES:
        raise UserError(f"dreams start from {' or '.join(SOURCES)}, not from {source!r}.")
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"dreams have {name} {value}; it must be at least 1.")
