"""The command line of the figures: the files it writes, and bad input."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest
from logdirs import two_games, write_run

from dreamerv2.common import figures, plot, plot_flags

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture
def logdir(tmp_path):
    return two_games(tmp_path / "logdir")


def run(*argv):
    return plot.main([str(arg) for arg in argv])


def sentence(capsys):
    """The only line of an error."""
    lines = capsys.readouterr().err.splitlines()
    [line] = [line for line in lines if line.startswith("error: ")]
    return line.removeprefix("error: ")


def test_files_of_own_runs(logdir, tmp_path, capsys):
    out = tmp_path / "plots"
    flags = ["--bins", "1e6", "--xaxis", "step", "--yaxis", "eval_return"]
    flags += ["--baselines", "rainbow", "iqn", "dreamerv2"]
    assert run("--indir", logdir, "--outdir", out, *flags) == 0
    folder = out / "logdir"
    names = {"curves.png", "curves.pdf", "curves.svg", "curves.json", "runs.json"}
    assert {file.name for file in folder.iterdir()} == names
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "curves.pdf").read_bytes().startswith(b"%PDF")
    assert "<svg" in (folder / "curves.svg").read_text()
    entry = json.loads((folder / "runs.json").read_text())[0]
    assert entry == {
        "task": "atari_boxing", "method": "mine", "seed": "0",
        "xs": [1e6, 2e6, 3e6, 4e6, 5e6], "ys": [2, 4, 6, 8, 10],
    }  # fmt: skip
    curves = json.loads((folder / "curves.json").read_text())
    assert {curve["panel"] for curve in curves} == {"atari_boxing", "atari_pong", *figures.ATARI}
    assert str(folder / "curves.png") in capsys.readouterr().out


def test_figures_of_the_paper_are_saved(tmp_path):
    flags = ["--formats", "png", "--labels", "iqn", "Quantiles", "--colors", "iqn", "red"]
    assert run("figure1", "A.2", "--outdir", tmp_path, *flags) == 0
    names = {"figure1.png", "figure1.json", "a2.png", "a2.json"}
    assert {file.name for file in tmp_path.iterdir()} == names


def test_good_runs_are_shown_beside_bad_ones(logdir, tmp_path, capsys):
    write_run(logdir, "atari_pong", "mine", 7, [(1e6, 1.0)], "other")
    (logdir / "atari_pong" / "mine" / "0" / "metrics.jsonl").open("a").write('{"step": 7e6, "eva')
    flags = ["--outdir", tmp_path / "out", "--subdir", "False", "--formats", "png"]
    assert run("--indir", logdir, tmp_path / "nothing", *flags) == 0
    notes = capsys.readouterr().err
    assert "nothing is not a folder" in notes and "has no eval_return" in notes
    assert "broken lines" in notes
    entries = json.loads((tmp_path / "out" / "runs.json").read_text())
    assert len(entries) == 4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--yaxis", "eval_retrn"], "has no eval_retrn"),
        (["--baselines", "rainbw"], "did you mean rainbow"),
        (["--tasks", "atari_pung"], "did you mean atari_pong"),
        (["--methods", "mime"], "did you mean mine"),
        (["--tasks", "("], "no regular expression"),
        (["--agg", "std2"], "did you mean std"),
        (["--formats", "gif"], "pdf, png, svg"),
        (["--add", "gamer_medain"], "did you mean gamer_median"),
        (["--palette", "contrats"], "did you mean contrast"),
        (["--labels", "mine"], "pairs"),
        (["--labels", "mime", "x"], "did you mean mine"),
        (["--colors", "mine", "blurple"], "no colour"),
        (["--xlim", "2", "1"], "is empty"),
        (["--bins", "-3"], "--bins"),
        (["--cols", "0"], "whole number"),
        (["--subdir", "maybe"], "True nor False"),
    ],
)
def test_bad_input_is_one_sentence(logdir, tmp_path, capsys, flags, message):
    assert run("--indir", logdir, "--outdir", tmp_path / "out", *flags) == 2
    assert message in sentence(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "nothing to plot"),
        (["f1", "--indir", "x"], "leave out one"),
        (["f1", "--bins", "1e6"], "--indir"),
        (["f1", "--baselines", "simpel"], "did you mean simple"),
        (["e1", "--baselines", "simple"], "no published curve"),
        (["--indir", "EMPTY"], "no metrics.jsonl"),
        (["--indir", "/nowhere"], "not a folder"),
    ],
)
def test_more_bad_input(tmp_path, capsys, flags, message):
    (tmp_path / "empty").mkdir()
    flags = [str(tmp_path / "empty") if flag == "EMPTY" else flag for flag in flags]
    assert run(*flags, "--outdir", tmp_path / "out") == 2
    assert message in sentence(capsys)


def test_unwritable_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run("a2", "--outdir", tmp_path / "file" / "x", "--formats", "png") == 2
    assert "can't be written" in sentence(capsys)


def test_every_flag_is_explained_and_read():
    source = "".join(path.read_text() for path in (ROOT / "dreamerv2" / "common").glob("plot*.py"))
    for name in vars(plot_flags.parse(["all", "--outdir", "x"], "plot", ["f1"])):
        assert f"args.{name}" in source, name


def test_script_starts_without_tensorflow_and_matplotlib():
    code = (
        "import sys, runpy; sys.argv = ['plot.py', '--outdir', 'x'];\n"
        "try: runpy.run_path('common/plot.py', run_name='__main__')\n"
        "except SystemExit as error: assert error.code == 2\n"
        "assert not {'tensorflow', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("error: there is nothing to plot")
