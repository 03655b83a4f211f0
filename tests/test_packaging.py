"""What is installed: the version, the files, the entry points, and which imports stay light."""

import email
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
from building import ROOT, build_sdist, build_wheel, copy_sources, run

import dreamerv2

WITH_TENSORFLOW = {"checkpoint", "checkpoint_reader"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return copy_sources(tmp_path_factory.mktemp("source") / "project")


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    pytest.importorskip("wheel", reason="the dev extra is not installed")
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        return email.message_from_bytes(archive.read(name))


class TestWheel:
    def test_version_is_the_one_in_the_package(self, wheel, metadata):
        assert wheel.name == f"dreamerv2-{dreamerv2.__version__}-py3-none-any.whl"
        assert metadata["Version"] == dreamerv2.__version__

    def test_holds_every_module_and_data_file_and_one_import_name(self, wheel):
        with zipfile.ZipFile(wheel) as archive:
            names = {name for name in archive.namelist() if ".dist-info/" not in name}
        expected = {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / "dreamerv2").rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }
        expected |= {f"dreamerv2/scores/{path.name}" for path in (ROOT / "scores").glob("*.json*")}
        assert expected <= names
        assert "dreamerv2/scores/atari-dopamine.json.gz" in names
        assert {name.split("/")[0] for name in names} == {"dreamerv2"}

    def test_names_the_python_versions_and_extras(self, metadata):
        assert set(metadata["Requires-Python"].split(",")) == {">=3.10", "<3.14"}
        assert {"cuda", "dev", "docs"} <= set(metadata.get_all("Provides-Extra"))

    def test_requirements_and_extras_hold_for_what_is_installed(self, metadata):
        requirements = pytest.importorskip("packaging.requirements")
        from importlib.metadata import version

        for extra in ("", "dev"):
            for text in metadata.get_all("Requires-Dist"):
                requirement = requirements.Requirement(text)
                marker = requirement.marker
                if marker is None or marker.evaluate({"extra": extra}):
                    installed = version(requirement.name)
                    assert requirement.specifier.contains(installed, prereleases=True), text

    def test_command_is_installed(self, wheel):
        with zipfile.ZipFile(wheel) as archive:
            name = next(n for n in archive.namelist() if n.endswith("entry_points.txt"))
            assert "dreamerv2 = dreamerv2.cli:main" in archive.read(name).decode()

    def test_works_beside_modules_that_have_our_names(self, wheel, tmp_path):
        installed = tmp_path / "site"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(installed)
        beside = tmp_path / "project"
        beside.mkdir()
        for name in ("common", "agent", "api", "loop", "nets", "replay", "logger", "configs"):
            (beside / f"{name}.py").write_text("raise ImportError('the wrong module')\n")
        script = (
            "import importlib.resources as resources, sys\n"
            "sys.path[:0] = sys.argv[1:]\n"
            "import dreamerv2\n"
            "from dreamerv2.common import logger, video\n"
            "assert logger.__file__.startswith(sys.argv[2]), logger.__file__\n"
            "text = resources.files('dreamerv2').joinpath('configs.yaml').read_text()\n"
            "assert 'defaults:' in text and 'atari:' in text\n"
            "from dreamerv2.common import score_data\n"
            "assert str(score_data.folder()).startswith(sys.argv[2]), score_data.folder()\n"
            "assert len(score_data.load().runs) > 2000\n"
        )
        run(sys.executable, "-c", script, beside, installed, cwd=beside)


class TestSourceDistribution:
    def test_holds_what_building_and_testing_need(self, source, tmp_path):
        import tarfile

        with tarfile.open(build_sdist(source, tmp_path)) as archive:
            names = {"/".join(name.split("/")[1:]) for name in archive.getnames()}
        assert {
            "setup.py", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile",
            "Dockerfile", "constraints.txt", "mkdocs.yml", "docs/hooks.py", "docs/scores.md",
            "dreamerv2/configs.yaml", "dreamerv2/py.typed", "dreamerv2/common/logger.py",
            "scores/index.json", "scores/atari-dopamine.json.gz", "tests/test_packaging.py",
        } <= names  # fmt: skip
        assert not [name for name in names if name.startswith("common")]


class TestRepository:
    def test_version_is_stated_once(self):
        found = [
            path.relative_to(ROOT).as_posix()
            for path in [ROOT / "setup.py", ROOT / "pyproject.toml", *ROOT.glob("dreamerv2/*.py")]
            if re.search(r"^__version__|^\s*version\s*=\s*[\"']", path.read_text(), re.M)
        ]
        assert found == ["dreamerv2/__init__.py"]

    def test_changelog_has_an_unreleased_section_or_the_current_version(self):
        text = (ROOT / "CHANGELOG.md").read_text()
        assert "## [Unreleased]" in text or f"## [{dreamerv2.__version__}]" in text

    @pytest.mark.parametrize("link", ["common", "configs.yaml"])
    def test_root_shows_the_package_by_links(self, link):
        assert os.readlink(ROOT / link) == f"dreamerv2/{link}"

    def test_ci_only_runs_the_tests(self):
        path = ROOT / ".ci" / "run"
        assert os.access(path, os.X_OK)
        assert path.read_text().splitlines()[-1] == "exec make test"

    def test_every_layer_rule_names_modules_of_the_package(self):
        """A misspelt layer would be optional and so guard nothing."""
        text = (ROOT / "pyproject.toml").read_text()
        (block,) = re.findall(r"^layers = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
        layers = set(re.findall(r"\w+", block))
        present = {path.stem for path in (ROOT / "dreamerv2").glob("*.py")} - {"__init__"}
        present |= {path.parent.name for path in (ROOT / "dreamerv2").glob("*/__init__.py")}
        assert present <= layers


def test_modules_that_need_no_tensors_import_no_tensorflow():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "dreamerv2" / "common").rglob("*.py"))
        if path.stem not in {*WITH_TENSORFLOW, "__init__"}
    ]
    script = (
        "import importlib, json, sys\n"
        "for name in sys.argv[1:]:\n"
        "  importlib.import_module(name)\n"
        "heavy = ('tensorflow', 'keras', 'tf_keras', 'tensorflow_probability')\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))\n"
    )
    assert json.loads(run(sys.executable, "-c", script, *modules, cwd=ROOT)) == []


class TestMakefile:
    def make(self, *arguments, **environment):
        return subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment},
        )  # fmt: skip

    @pytest.fixture(autouse=True)
    def needs_make(self):
        if shutil.which("make") is None:
            pytest.skip("make is not installed")

    def train(self, *arguments):
        """The training command that make would run, with an installation that is up to date."""
        old = ["--old-file=.venv/.installed-cpu", "--old-file=.venv/.installed-cuda"]
        output = self.make("--dry-run", *old, "train", *arguments, HOME="/home/me").stdout
        return " ".join(output.replace("\\\n", " ").split()).split("dreamerv2/train.py ")[-1]

    def test_trains_on_pong_without_any_argument(self):
        assert re.fullmatch(
            '--logdir "/home/me/logdir/atari_pong/dreamerv2/1" --configs atari( small)?',
            self.train(),
        )

    def test_variables_override(self):
        task = self.train("TASK=atari_boxing", "CONFIGS=atari debug", "ARGS=--seed 3")
        assert task == (
            '--logdir "/home/me/logdir/atari_boxing/dreamerv2/1" --configs atari debug'
            ' --task "atari_boxing" --seed 3'
        )
        assert self.train("LOGDIR=/a b").startswith('--logdir "/a b" --configs')

    def test_help_lists_every_target(self):
        output = self.make("help").stdout
        for target in ("train", "test", "lint", "docs", "format", "clean", "help"):
            assert re.search(rf"^  make {target}\s", output, re.MULTILINE)

    @pytest.mark.parametrize(
        ("program", "message"),
        [
            ("echo 'Python 3.8.18'; exit 1", "Python 3.8.18, but DreamerV2 needs Python 3.10 to"),
            (None, "there is no"),
        ],
    )
    def test_says_which_python_it_needs(self, source, tmp_path, program, message):
        python = tmp_path / "python"
        if program:
            python.write_text(f"#!/bin/sh\n{program}\n")
            python.chmod(0o755)
        result = subprocess.run(
            ["make", "train", f"PYTHON={python}"], cwd=source, capture_output=True, text=True
        )
        assert result.returncode == 2
        assert message in result.stderr
        assert not (source / ".venv").exists()
