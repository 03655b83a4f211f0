"""Score files and log folders with anything in them: read, left out with a note, or a sentence."""

from __future__ import annotations

import gzip
import json
import pathlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamerv2.common import plot, runs, score_data, scores
from dreamerv2.common.errors import UserError

QUICK = settings(max_examples=30, derandomize=True, deadline=None, database=None,
                 suppress_health_check=list(HealthCheck))  # fmt: skip

RUN = {"suite": "atari", "task": "atari_pong", "method": "mine", "seed": 0,
       "frames": {"first": 1e6, "every": 1e6}, "returns": [1.0, 2.0]}  # fmt: skip
HEAD = {"format": "dreamerv2-scores", "version": 1}
FILES: dict[str, Any] = {
    "index.json": {
        **HEAD,
        "methods": {"mine": {"label": "Mine", "protocol": "p", "source": "s"}},
        "task_sets": {"set": ["atari_pong"]},
        "sources": {"s": {"title": "", "url": "", "licence": "", "corrections": []}},
        "runs": ["runs.json.gz"],
        "references": "references.json",
        "paper": "paper.json",
    },
    "runs.json.gz": {**HEAD, "kind": "runs", "source": "s", "runs": [RUN]},
    "references.json": {
        **HEAD,
        "kind": "references",
        "suites": {"atari": {"tasks": {"atari_pong": {"random": -21.0}}}},
    },
    "paper.json": {**HEAD, "kind": "paper", "t": {"columns": ["a"], "rows": {"r": [1]}}},
}
odd = st.none() | st.booleans() | st.text(max_size=5) | st.sampled_from(
    [10**18, -(10**18), 10**400, 1e308, float("nan"), float("inf"), [], {}, [[1]], ["a"], "../../x",
     "/etc/passwd", {"first": 1, "every": 1e308}, {"first": 0, "every": 0}, [10**400, 1]]
)  # fmt: skip


def write(folder: pathlib.Path, files: dict[str, Any]) -> None:
    for name, content in files.items():
        data = json.dumps(content).encode()
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


def places(tree: Any) -> list[tuple[Any, ...]]:
    if isinstance(tree, dict):
        return [()] + [(key, *rest) for key, sub in tree.items() for rest in places(sub)]
    if isinstance(tree, list):
        return [()] + [(at, *rest) for at, sub in enumerate(tree) for rest in places(sub)]
    return [()]


def test_the_files_are_right(tmp_path: pathlib.Path) -> None:
    write(tmp_path, FILES)
    assert score_data.load(tmp_path).tasks == ("atari_pong",)


@settings(QUICK, max_examples=200)
@given(st.data())
def test_score_data(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("scores")
    files = json.loads(json.dumps(FILES))
    name = data.draw(st.sampled_from(list(files)))
    where = data.draw(st.sampled_from(places(files[name])))
    node = files
    for part in (name, *where)[:-1]:
        node = node[part]
    node[(name, *where)[-1]] = data.draw(odd)
    write(folder, files)
    try:
        score_data.load(folder)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000


@pytest.mark.parametrize("name", list(FILES))
@pytest.mark.parametrize("data", [b"", b"[" * 100_000, b"\x1f\x8b", b"\xff\xfe", b"null", b"7"])
def test_score_files_of_any_bytes(name: str, data: bytes, tmp_path: pathlib.Path) -> None:
    write(tmp_path, FILES)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    with pytest.raises(UserError, match=name):
        score_data.load(tmp_path)


def test_an_archive_that_unpacks_to_gigabytes_is_not_unpacked(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_data, "MOST_BYTES", 1 << 16)
    write(tmp_path, FILES)
    (tmp_path / "runs.json.gz").write_bytes(gzip.compress(b" " * (1 << 24)))
    with pytest.raises(UserError, match="more than the 65,536 bytes"):
        score_data.load(tmp_path)


lines = st.lists(
    st.sampled_from(
        [b'{"step": 1, "eval_return": 2}', b'{"step": 2, "eval_return": 3.5}', b"{", b"[]", b"null",
         b'{"step": 1e18, "eval_return": 1}', b'{"step": -5, "eval_return": 1}',
         b'{"eval_return": 1}',
         b'{"step": "a", "eval_return": 1}', b'{"step": 3, "eval_return": [1]}', b"[" * 5000,
         b'{"step": 3, "eval_return": 1e999}', b'{"step": 3, "eval_return": NaN}', b"\xff\x00",
         b'{"step": ' + b"9" * 5000 + b', "eval_return": 1}',
         b'{"step": 1e308, "eval_return": 1e300}', b'{"step": 0, "eval_return": 0}',
         b'{"step": 3, "eval_return": {"a": "' + b"x" * 1000 + b'"}}']
    ) | st.binary(max_size=20),
    max_size=6,
)  # fmt: skip
configs = st.sampled_from(
    ["", "task: atari_pong\nseed: 1\n", "task: [1]\n", "task: ../../x\nseed: ../y\n", "\x00",
     "action_repeat: " + "9" * 5000 + "\ntask: atari_pong\n",
     "task: atari_pong\naction_repeat: ²\n"]
)  # fmt: skip


@QUICK
@given(lines, configs)
def test_log_folders(
    tmp_path_factory: pytest.TempPathFactory, content: list[bytes], config: str
) -> None:
    root = tmp_path_factory.mktemp("logs")
    for seed in ("0", "1"):
        folder = root / "atari_pong" / "mine" / seed
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_bytes(b"\n".join(content))
        (folder / "config.yaml").write_text(config)
    try:
        result = runs.read([root], progress=None)
    except UserError as error:
        assert len(str(error)) < 3000
        return
    for run in result.runs:
        assert len(runs.bin_run(run, 1e6).frames) <= len(run.frames)
    assert scores.main(["k1", "--indir", str(root), "--tasks", "atari_pong"]) in (0, 2)


@pytest.mark.parametrize(
    "flags",
    [
        ["--bins", "1e-300"], ["--bins", "1e300"], ["--frames", "1e300"], ["--frames", "1e-300"],
        ["--window", "1e308"], ["--resamples", "1000000000000000000"],
        ["--ci", "--resamples", "99999999999"],
        ["--seed", "9" * 400], ["--metric", ""], ["--tasks", "../x"],
    ],
)  # fmt: skip
def test_flags_of_tables_do_not_fill_the_memory(
    flags: list[str], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "atari_pong" / "mine" / "0"
    folder.mkdir(parents=True)
    rows = [{"step": step, "eval_return": 1.0} for step in (1, 1000, 10**18)]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    status = scores.main(["k1", "--indir", str(tmp_path), "--tasks", "atari_pong", *flags])
    assert status in (0, 2)
    err = capsys.readouterr().err
    assert "Traceback" not in err and (status == 0 or err.count("error: ") == 1)


def test_a_run_of_enormous_length_is_drawn(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "logs" / "atari_pong" / "mine" / "0"
    folder.mkdir(parents=True)
    rows = [{"step": step, "eval_return": 1.0} for step in (1, 1000, 10**18)]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ["runs", "--indir", str(tmp_path / "logs"), "--outdir", str(tmp_path / "plots")]
    assert plot.main(arguments) in (0, 2)
