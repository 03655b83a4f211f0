"""Which curves of one's own runs stand beside which baselines."""

from __future__ import annotations

import numpy as np
import pytest
from logdirs import two_games, write_run

from dreamerv2.common import figures, plot_combine, plot_runs
from dreamerv2.common.score_data import load


@pytest.fixture(scope="module")
def data():
    return load()


@pytest.fixture
def logdir(tmp_path):
    return two_games(tmp_path / "logdir")


def pick(panels, name, method):
    [curve] = [c for p in panels if p.name == name for c in p.curves if c.method == method]
    return curve


def test_curves_of_own_runs(data, logdir):
    request = plot_runs.Request([str(logdir)], bins=1e6, baselines=["rainbow", "gamer", "simple"])
    gathered = plot_runs.gather(data, request)
    panels = plot_runs.task_panels(gathered)
    assert [panel.name for panel in panels] == ["atari_boxing", "atari_pong"]
    mine = pick(panels, "atari_pong", "mine")
    assert mine.frames.tolist() == [k * 1e6 for k in range(1, 7)]
    assert mine.lines.tolist() == [[1.5, 2.5, 3.5, 4.5, 5.5, 6.0]]  # Seed 0 stays at 5.
    assert mine.own and mine.seeds == 2
    rainbow = pick(panels, "atari_pong", "rainbow")
    published = data.select(["atari_pong"], ["rainbow"])
    assert rainbow.frames[-1] == 6e6  # Only as far as one's own runs.
    expected = np.mean([r.returns[:6] for r in published], 0)
    np.testing.assert_allclose(rainbow.lines[0], expected)
    gamer = pick(panels, "atari_pong", "gamer")
    assert gamer.level and gamer.lines[0, 0] == data.references["atari_pong"]["gamer"]
    assert pick(panels, "atari_pong", "simple").label == "SimPLe at 400k"


def test_aggregates_come_with_several_tasks(data, logdir):
    gathered = plot_runs.gather(data, plot_runs.Request([str(logdir)], bins=1e6))
    panels = plot_combine.panels(gathered, ["auto", "seeds", "human_above", "mean"])
    names = [*figures.ATARI, "seeds", "human_above", "mean"]
    assert [panel.name for panel in panels] == names
    curve = pick(panels, "gamer_mean", "mine")
    shares = []
    for task, scale in (("atari_pong", 1.0), ("atari_boxing", 2.0)):
        random, gamer = (data.references[task][name] for name in ("random", "gamer"))
        shares.append((scale * 6 - random) / (gamer - random))
    np.testing.assert_allclose(curve.lines[0, -1], np.mean(shares))
    assert pick(panels, "mean", "mine").lines[0, -1] == pytest.approx(9)
    assert pick(panels, "seeds", "mine").lines[0].max() == 4
    assert pick(panels, "human_above", "mine").lines[0, -1] == sum(share >= 1 for share in shares)
    one = plot_runs.Request([str(logdir)], tasks=["pong"])
    assert plot_combine.panels(plot_runs.gather(data, one), ["auto"]) == []


def test_unknown_tasks_are_shown_but_not_normalized(data, tmp_path):
    write_run(tmp_path, "atari_pong", "mine", 0, [(1e6, 1.0)])
    write_run(tmp_path, "atari_pinball3d", "mine", 0, [(1e6, 1.0)])
    gathered = plot_runs.gather(data, plot_runs.Request([str(tmp_path)], bins=1e6))
    assert gathered.tasks == ["atari_pinball3d", "atari_pong"]
    [first, *_] = plot_combine.panels(gathered, ["auto"])
    assert first.title == "Gamer Median, 1 task"
    assert any("atari_pinball3d is not in gamer" in note for note in gathered.notes)


def test_short_runs_get_short_bins(data, tmp_path):
    write_run(tmp_path, "atari_pong", "mine", 0, [(k * 1e3, k) for k in range(1, 201)])
    gathered = plot_runs.gather(data, plot_runs.Request([str(tmp_path)]))
    assert np.diff(gathered.runs[0].frames).tolist() == [5e3] * 39
    [panel] = plot_runs.task_panels(gathered)
    # Published curves begin at a million frames: what they reached is shown as a level.
    levels = {curve.label for curve in panel.curves if curve.level}
    assert levels == {"DreamerV2 at 200M", "Rainbow at 199M", "IQN at 199M"}


def test_other_metrics_have_no_baselines(data, tmp_path):
    write_run(tmp_path, "atari_pong", "mine", 0, [(1e6, 1.0)], "kl_loss")
    request = plot_runs.Request([str(tmp_path)], yaxis="kl_loss", baselines=["rainbow"])
    gathered = plot_runs.gather(data, request)
    assert gathered.baselines == [] and "Baselines are left out" in gathered.notes[-1]
    [panel] = plot_runs.task_panels(gathered)
    assert panel.ylabel == "kl_loss" and [curve.method for curve in panel.curves] == ["mine"]


def test_published_flags(data, logdir):
    request = plot_runs.Request(
        [str(logdir), str(logdir)], prefix=True, xmult=2, maxval=3, bins=0, tasks=["pong"],
        methods=["indir2", "indir1"], baselines=["rainbow_sticky", "human_gamer"], how="none",
    )  # fmt: skip
    gathered = plot_runs.gather(data, request)
    assert gathered.methods == ["indir2_mine", "indir1_mine"]
    assert gathered.baselines == ["rainbow", "gamer"]
    assert max(run.frames[-1] for run in gathered.runs) == 12e6
    assert max(run.returns.max() for run in gathered.runs) == 3
    [panel] = plot_runs.task_panels(gathered)
    assert pick([panel], "atari_pong", "indir1_mine").lines.shape == (2, 6)
