"""Nothing that somebody may download is executed, leads elsewhere, or fills the memory."""

from __future__ import annotations

import ast
import io
import os
import pathlib
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest

from dreamerv2 import logdir
from dreamerv2.common import flags
from dreamerv2.common.config import Config
from dreamerv2.common.errors import UserError
from dreamerv2.common.files import read_bytes

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "dreamerv2" / "configs.yaml"
SOURCES = [
    path
    for folder in ("dreamerv2", "scores", "benchmarks", "examples", "docs", "demo")
    for path in sorted((ROOT / folder).rglob("*.py"))
] + [ROOT / "setup.py"]

# Modules that execute what they read, and functions that do, whatever they are called on.
MODULES = {
    "pickle",
    "cPickle",
    "marshal",
    "shelve",
    "dill",
    "joblib",
    "cloudpickle",
    "yaml",
    "code",
}
FUNCTIONS = {"eval", "exec", "compile", "__import__", "execfile", "input"}
METHODS = {"system", "popen", "load_model", "unsafe_load", "full_load", "load_all", "extractall",
           "mktemp", "model_from_json", "model_from_config", "enable_unsafe_deserialization",
           "py_function", "from_config"}  # fmt: skip
# Where a module is named by a variable: who names it, and why that is right.
IMPORTS = {
    "cli.py": "one of a fixed table",
    "extras.py": "names of packages in this project's own code",
    "gym.py": "the task, as in gymnasium.make; see test_modules_of_stored_tasks",
    "checking.py": "the argument of the command",
    "rendering.py": "a fixed name",
}


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_code_executes_what_it_reads(path: pathlib.Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert not {name.partition(".")[0] for name in names} & MODULES, ast.unparse(node)
    for call, name in calls(tree):
        text = f"{path.name}:{call.lineno}: {ast.unparse(call)}"
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        assert name not in FUNCTIONS, text
        assert name.rpartition(".")[2] not in METHODS, text
        assert "shell" not in keywords and "allow_pickle" not in keywords, text
        if name in ("np.load", "numpy.load"):
            raise AssertionError(f"{text}: npz files may hold pickled objects")
        if name.endswith("YAML"):
            kind = keywords.get("typ")
            assert not isinstance(kind, ast.Constant) or kind.value in ("safe", "rt"), text
        if name.endswith("import_module") and "dreamerv2" in path.parts[:-1]:
            assert isinstance(call.args[0], ast.Constant) or path.name in IMPORTS, text


def test_servers_listen_on_this_machine_alone() -> None:
    """TensorBoard does so by itself, unless it is told otherwise."""
    said = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "Makefile", ROOT / "Dockerfile"]
    for path in [*SOURCES, *said]:
        text = path.read_text(encoding="utf-8")
        assert "--bind_all" not in text, path
        assert path.suffix == ".md" or "--host 0.0.0.0" not in text, path
    from dreamerv2 import play

    assert play._parser("play").parse_args(["--logdir", "x"]).host == "127.0.0.1"


class Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, target: pathlib.Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return pathlib.Path.touch, (self.target,)


def payloads(target: pathlib.Path) -> list[bytes]:
    command = f"touch {target}"
    npz, pickled = io.BytesIO(), pickle.dumps(Attack(target))
    with zipfile.ZipFile(npz, "w") as archive:
        archive.writestr("../../evil.py", "raise SystemExit")
        npy = io.BytesIO()
        np.save(npy, np.array([Attack(target)], object), allow_pickle=True)
        archive.writestr("a.npy", npy.getvalue())
    return [
        f"!!python/object/apply:os.system ['{command}']\n".encode(),
        f"task: !!python/object/apply:subprocess.check_output [['touch', '{target}']]\n".encode(),
        f"seed: !!python/object/new:os.system ['{command}']\n".encode(),
        b"task: !!python/name:os.system\n",
        b"task: !!python/module:antigravity\n",
        f"seed: __import__('os').system('{command}')\n".encode(),
        f"{{\"step\": \"__import__('os').system('{command}')\"}}\n".encode(),
        pickled,
        npz.getvalue(),
    ]


def test_files_with_code_in_them_are_data(tmp_path: pathlib.Path) -> None:
    """Each file of a run is replaced by each attack; nothing may come to life."""
    from dreamerv2 import spaces_file
    from dreamerv2.common import checkpoint_reader, runs
    from dreamerv2.common.replay_reader import ReplayReader

    target = tmp_path / "owned"
    for number, payload in enumerate(payloads(target)):
        run = tmp_path / f"run{number}"
        (run / "replay").mkdir(parents=True)
        (run / "checkpoint").mkdir()
        for name in ["config.yaml", "spaces.json", "metrics.jsonl", "replay/0000-00000000.chunk",
                     "checkpoint/checkpoint", "checkpoint/ckpt-1.index",
                     "checkpoint/ckpt-1.data-00000-of-00001"]:  # fmt: skip
            (run / name).write_bytes(payload)
        with pytest.raises(UserError):
            logdir.load_config(run)
        with pytest.raises(UserError):
            Config.load(run / "config.yaml", like=flags.build(CONFIGS))
        with pytest.raises(UserError):
            spaces_file.load_spaces(run)
        with pytest.raises(UserError):
            flags.Document.read(run / "config.yaml")
        with pytest.raises(UserError):
            runs.read([run], progress=None)
        assert ReplayReader(run / "replay").notices
        names = checkpoint_reader.names(run / "checkpoint")
        assert set(names) <= {"ckpt-1"}
        with pytest.raises(UserError):
            checkpoint_reader.read(run / "checkpoint", {}, names or ["ckpt-1"])
        assert not target.exists() and not (tmp_path.parent / "evil.py").exists()
    # The attacks are real: what executes its input falls for them.
    pickle.loads(payloads(target)[-2])
    assert target.exists()


def test_the_list_of_checkpoints_cannot_name_other_files(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    from dreamerv2.common.checkpoint import Checkpoint
    from dreamerv2.common.checkpoint_reader import names

    precious = tmp_path / "precious"
    for suffix in (".index", ".data-00000-of-00001"):
        pathlib.Path(f"{precious}{suffix}").write_text("thesis")
    folder = tmp_path / "run" / "checkpoint"
    checkpoint = Checkpoint(folder, {"a": tf.Variable(1.0)}, {}, keep=1)
    checkpoint.save()
    for lie in (
        precious,
        "../../precious",
        "../checkpoint/ckpt-1",
        "ckpt-1/../../../precious",
        "..",
    ):
        (folder / "checkpoint").write_text(
            f'model_checkpoint_path: "{lie}"\nall_model_checkpoint_paths: "{lie}"\n'
        )
        found = names(folder)
        assert len(found) == 1 and found[0].startswith("ckpt-")
        again = Checkpoint(folder, {"a": tf.Variable(1.0)}, {}, keep=1)
        assert again.restore()
        again.save()
        assert sorted(path.name for path in tmp_path.glob("precious*")) == [
            "precious.data-00000-of-00001",
            "precious.index",
        ]


def test_states_of_a_checkpoint_that_do_not_fit_are_a_sentence(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    from dreamerv2.common.checkpoint import Checkpoint, Saved
    from dreamerv2.common.replay import Replay
    from dreamerv2.progress import Progress

    progress = Progress(flags.build(CONFIGS))
    replay = Replay(tmp_path / "replay", capacity=8, length=2)
    for number, state in enumerate([{}, {"updates": 1}, [1], 7, "x", {"streams": {"a": [1]}}]):
        for name, part in [("progress", progress), ("replay", replay)]:
            folder = tmp_path / f"{name}{number}"
            Checkpoint(folder, {"a": tf.Variable(0)}, {name: Saved(lambda: state, print)}).save()  # noqa: B023
            saved = Saved(part.state, part.restore)
            with pytest.raises(UserError, match="holds counters that cannot be used"):
                Checkpoint(folder, {"a": tf.Variable(0)}, {name: saved}).restore()


@pytest.mark.parametrize(
    "name",
    ["metrics.jsonl", "lock", "config.yaml", "checkpoint", "replay", "replay/0000-00000000.chunk",
     "checkpoint/checkpoint.tmp", "evaluation", "evaluation/evaluation.json", "spaces.json"],
)  # fmt: skip
@pytest.mark.parametrize("exists", [True, False])
def test_links_do_not_lead_out_of_a_logdir(name: str, exists: bool, tmp_path: pathlib.Path) -> None:
    outside = tmp_path / "outside"
    folder = name in ("checkpoint", "replay", "evaluation")
    if exists:
        outside.mkdir() if folder else outside.write_text("precious")
    run = tmp_path / "run"
    (run / name).parent.mkdir(parents=True)
    (run / name).symlink_to("../outside" if "/" not in name else "../../outside")
    config = flags.build(CONFIGS, [], {"logdir": str(run)})
    with pytest.raises(UserError, match=f"holds '{name}', which leads out of it"):
        logdir.Logdir(config)
    with pytest.raises(UserError, match="leads out of it"):
        logdir.check_links(run)
    assert outside.exists() == exists
    if exists and not folder:
        assert outside.read_text() == "precious"


def test_links_inside_and_to_a_whole_logdir_work(tmp_path: pathlib.Path) -> None:
    real, link = tmp_path / "disk" / "run", tmp_path / "link"
    (real / "replay").mkdir(parents=True)
    (real / "metrics.jsonl").write_text("")
    (real / "notes.txt").symlink_to("metrics.jsonl")
    link.symlink_to(real)
    logdir.check_links(link)


@pytest.mark.timeout(20)
def test_pipes_and_devices_are_not_read(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(UserError, match="is not a file"):
        logdir.load_config(tmp_path)
    with pytest.raises(UserError, match="is no file"):
        logdir.check_links(tmp_path)
    with pytest.raises(UserError, match="is not a file"):
        read_bytes("/dev/zero")
    (tmp_path / "large").write_bytes(bytes(2000))
    with pytest.raises(UserError, match="more than the 1,000 bytes"):
        read_bytes(tmp_path / "large", 1000)


def test_modules_of_stored_tasks_are_not_taken_from_the_run(tmp_path: pathlib.Path) -> None:
    """Whoever starts Python inside of a downloaded folder has it among the places of modules."""
    marker = tmp_path / "owned"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    flags.build(CONFIGS, [], {"task": "gym_evil:Env-v0"}).save(tmp_path / "config.yaml")
    command = [sys.executable, "-m", "dreamerv2.evaluate", "--logdir", "."]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 2 and "names a module in that folder" in done.stderr
    assert not marker.exists()


def test_names_of_checkpoints_are_names(tmp_path: pathlib.Path) -> None:
    from dreamerv2 import loading

    flags.build(CONFIGS, ["debug"]).save(tmp_path / "config.yaml")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "ckpt-1.index").write_text("")
    for name in ("../../etc/passwd", "/etc/passwd", "..", "", "ckpt-2"):
        with pytest.raises(UserError, match="there is no checkpoint"):
            loading.load_run(tmp_path, name)


def test_a_length_of_thousands_of_digits_is_refused_by_the_server() -> None:
    import http.client

    from test_play_session import SPACE, FakeGame

    from dreamerv2.play_keys import make_controls
    from dreamerv2.play_server import Server
    from dreamerv2.play_session import Session

    session = Session(FakeGame(), make_controls(SPACE), fps=60)
    server = Server(port=0)
    server.start(session)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.putrequest("POST", "/input")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "9" * 5000)
        connection.endheaders()
        assert connection.getresponse().status == 413
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost@evil.example", ""):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
            connection.putrequest("GET", "/", skip_host=True)
            connection.putheader("Host", host)
            connection.endheaders()
            assert connection.getresponse().status == 403
    finally:
        session.close()
        server.close()
