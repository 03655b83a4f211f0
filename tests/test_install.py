"""The package as people get it: built, installed in a new environment, used elsewhere."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest
from building import ROOT, build_sdist, build_wheel, copy_sources, run, unpack

from dreamerv2 import cli

# Files that people have beside their scripts, which must not be taken for ours.
HOSTILE = [
    "agent", "api", "cli", "common", "config", "configs", "dreams", "envs", "evaluate", "logger",
    "loop", "nets", "play", "replay", "rssm", "schedules", "scores", "tasks", "train",
]  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return copy_sources(tmp_path_factory.mktemp("source") / "project")


@pytest.fixture(scope="module")
def wheel(source: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The wheel, built from the source distribution and so from nothing else."""
    pytest.importorskip("wheel", reason="the dev extra is not installed")
    folder = tmp_path_factory.mktemp("build")
    return build_wheel(unpack(build_sdist(source, folder / "sdist"), folder / "unpacked"), folder)


@pytest.fixture(scope="module")
def python(wheel: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The interpreter of a new environment with the wheel in it.

    The libraries are those of this environment, or TensorFlow would have to be installed each time.
    They come last on its path, and editable installations among them are not followed.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    interpreter = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    libraries = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (site / "libraries.pth").write_text("\n".join(sorted(libraries)) + "\n")
    run(
        sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", interpreter,
        "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder,
    )  # fmt: skip
    return interpreter


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A user's folder, outside of the repository, with names like ours in it."""
    folder = tmp_path_factory.mktemp("project")
    for name in HOSTILE:
        (folder / f"{name}.py").write_text("raise ImportError('the wrong module')\n")
    (folder / "configs.yaml").write_text("defaults: {the_wrong_key: 1}\n")
    return folder


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)


def test_one_import_name_is_installed(python: pathlib.Path, project: pathlib.Path) -> None:
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    names = {path.name for path in site.iterdir()}
    assert {re.sub("-.*", "", name) for name in names} == {"dreamerv2", "libraries.pth"}
    script = "import dreamerv2; print(dreamerv2.__file__)"
    found = run(python, "-c", script, cwd=project).strip()
    assert found == str(site / "dreamerv2" / "__init__.py")


def test_command_names_its_programs(python: pathlib.Path, project: pathlib.Path) -> None:
    output = run(python.parent / "dreamerv2", "--help", cwd=project)
    assert re.findall(r"^  (\w+) ", output, re.MULTILINE) == list(cli.PROGRAMS)
    assert {"train", "evaluate", "play", "plot", "scores"} <= set(cli.PROGRAMS)
    for name in cli.PROGRAMS:
        assert "usage:" in run(python, "-m", "dreamerv2", name, "--help", cwd=project)


def test_tables_and_figures(python: pathlib.Path, project: pathlib.Path) -> None:
    table = run(python, "-m", "dreamerv2", "scores", "table1", "--format", "json", cwd=project)
    assert "dreamerv2" in json.dumps(json.loads(table)).lower()
    run(python, "-m", "dreamerv2", "plot", "figure1", "--outdir", "plots", cwd=project)
    assert (project / "plots" / "figure1.png").stat().st_size > 1000


SCRIPT = """
import dreamerv2.api as dv2
from dreamerv2 import cli
from dreamerv2.common import envs

assert cli.main(["evaluate", "--logdir", "run", "--episodes", "1"]) == 0
policy = dv2.load("run")
with envs.make("dummy_catch") as env:
    image = env.reset()["image"][0]
assert policy.act({"image": image}) in range(3)
assert dv2.defaults.rssm.deter == 1024
"""


def test_train_from_the_command_and_use_it_in_a_script(
    python: pathlib.Path, project: pathlib.Path
) -> None:
    # Not the script of the command: `-m` puts the hostile folder first on the path.
    run(
        python, "-m", "dreamerv2", "train", "--configs", "debug", "--jit", "off",
        "--task", "dummy_catch", "--steps", "45", "--prefill", "30", "--logdir", "run",
        cwd=project,
    )  # fmt: skip
    assert (project / "run" / "metrics.jsonl").exists()
    (project / "mine.py").write_text(SCRIPT)
    assert "Episode 1: return" in run(python, "mine.py", cwd=project)
    assert (project / "run" / "evaluation" / "evaluation.json").exists()


class TestDockerfile:
    """What can be said of it without Docker."""

    TEXT = (ROOT / "Dockerfile").read_text()
    STEPS = re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE).replace("\\\n", " ").splitlines()

    def copied(self) -> list[str]:
        copies = [step.split()[1:-1] for step in self.STEPS if step.startswith("COPY ")]
        return [word for words in copies for word in words if not word.startswith("--")]

    def test_does_not_run_as_root(self) -> None:
        users = [step.split()[1] for step in self.STEPS if step.startswith("USER ")]
        assert users and users[-1] not in ("root", "0")
        assert f"useradd --create-home --uid 10001 {users[-1]}" in self.TEXT

    def test_leaves_no_caches_in_its_layers(self) -> None:
        for step in self.STEPS:
            assert "apt-get install" not in step or "rm -rf /var/lib/apt/lists/*" in step
            assert "pip install" not in step or "--no-cache-dir" in step

    def test_sources_are_in_the_build_context(self) -> None:
        ignored = (ROOT / ".dockerignore").read_text().split()
        for name in self.copied():
            assert (ROOT / name).exists(), name
            assert not set(pathlib.PurePath(name).parts) & {i.strip("*/") for i in ignored}

    def test_what_is_copied_makes_the_same_wheel(
        self, source: pathlib.Path, wheel: pathlib.Path, tmp_path: pathlib.Path
    ) -> None:
        for name in self.copied():
            target = tmp_path / "context" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (source / name).is_dir():
                shutil.copytree(source / name, target, dirs_exist_ok=True)
            else:
                shutil.copy(source / name, target)
        built = build_wheel(tmp_path / "context", tmp_path)
        first, second = (set(zipfile.ZipFile(path).namelist()) for path in (wheel, built))
        assert first == second


def test_constraints_name_every_requirement_with_a_version_that_fits() -> None:
    requirements = pytest.importorskip("packaging.requirements")
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    names = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    script = (
        "import json, setuptools\n"
        "setuptools.setup = lambda **kw: print(json.dumps([kw['install_requires'],"
        " kw['extras_require']['dev']]))\n"
        "exec(compile(open('setup.py').read(), 'setup.py', 'exec'),"
        " {'__file__': 'setup.py', '__name__': '__main__'})\n"
    )
    direct, dev = json.loads(run(sys.executable, "-c", script, cwd=ROOT))
    for text in direct + dev:
        requirement = requirements.Requirement(text)
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in ("setuptools", "wheel"):  # Tools of the build, which pip freeze leaves out.
            continue
        assert name in names, f"{name} is missing; run make constraints"
        assert requirement.specifier.contains(names[name]), text


def test_a_script_of_the_checkout_is_not_disturbed_either(project: pathlib.Path) -> None:
    """Started by its path from a hostile folder, a script uses the checkout that it is in."""
    for script in ("train", "evaluate", "play"):
        path = ROOT / "dreamerv2" / f"{script}.py"
        result = subprocess.run(
            [sys.executable, str(path), "--help"], cwd=project, capture_output=True, text=True,
            env={**os.environ, "COLUMNS": "100"},
        )  # fmt: skip
        assert result.returncode == 0 and "usage:" in result.stdout, result.stderr
