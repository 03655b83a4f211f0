"""The documentation says what is so: links, commands, flags and code in it are checked."""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import importlib.util
import os
import pathlib
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from dreamerv2 import cli
from dreamerv2.common import flags

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "dreamerv2" / "configs.yaml"
PAGES = [
    *[ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "scores/README.md")],
    ROOT / "demo" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
IDS = [str(path.relative_to(ROOT)) for path in PAGES]

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^\n|\A)((?: {4}[^\n]*\n)+)", re.MULTILINE)
# Commands of others, which are not ours to check.
FOREIGN = {
    "tensorboard",
    "docker",
    "git",
    "cd",
    "ssh",
    "ray",
    "source",
    "export",
    "nvidia-smi",
    "xdg-open",
}


def load_hooks() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and content of every code block; indented ones have no language."""
    for match in FENCE.finditer(text):
        yield match.group(1), match.group(2)
    for match in INDENTED.finditer(FENCE.sub("", text)):
        yield "", re.sub(r"^ {4}", "", match.group(1), flags=re.MULTILINE)


def commands(text: str) -> Iterator[list[str]]:
    """Every command of the shell blocks, split into words."""
    for language, block in blocks(text):
        ours = block.startswith(("python ", "dreamerv2 ", "make "))
        if language not in ("", "sh") or (not language and not ours):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                del words[0]
            if words:
                yield [words[0].removeprefix(".venv/bin/"), *words[1:]]


def prose(text: str) -> str:
    return FENCE.sub("", text)


def slug(heading: str) -> str:
    """The anchor that a heading gets, on the site as well as where files are shown."""
    text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", text)).strip("-")


def anchors(path: pathlib.Path) -> set[str]:
    return {slug(h) for h in re.findall(r"^#+ (.*)$", prose(path.read_text()), re.MULTILINE)}


class Parsed(BaseException):
    """Thrown once a program has accepted its flags, so that it does nothing with them."""


def check_flags(program: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail unless the program takes these flags."""
    if program == "train":
        with pytest.raises(SystemExit) if "--help" in arguments else contextlib.nullcontext():
            flags.parse(CONFIGS, arguments, program="train")
        return
    original = argparse.ArgumentParser.parse_args

    def parse(self: Any, *args: Any, **kwargs: Any) -> Any:
        original(self, *args, **kwargs)
        raise Parsed

    module = importlib.import_module(cli.PROGRAMS[program][0])
    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        with pytest.raises((Parsed, SystemExit)) as caught:  # Returning would mean bad flags.
            module.main(arguments, program)
    assert getattr(caught.value, "code", 0) == 0, (program, arguments)


def scripts() -> dict[str, str]:
    """Script in a checkout -> program of the dreamerv2 command."""
    paths = {name: module.replace(".", "/") + ".py" for name, (module, _) in cli.PROGRAMS.items()}
    result = {path: name for name, path in paths.items()}
    # The root shows the folder `common` by a link.
    result.update({path.removeprefix("dreamerv2/"): name for path, name in result.items()})
    return result


@pytest.fixture(scope="module")
def known_flags() -> set[str]:
    """All flags of all programs, of their subcommands, too."""
    found = {"--configs", "--help", *(f"--{key}" for key in flags.build(CONFIGS).flat)}
    for path in [*ROOT.glob("benchmarks/*.py"), *ROOT.glob("examples/*.py")]:
        found.update(re.findall(r'"(--[\w-]+)"', path.read_text()))
    container: Any = argparse.ArgumentParser.__mro__[2]
    original = container.add_argument

    def add(self: Any, *args: Any, **kwargs: Any) -> Any:
        found.update(arg for arg in args if isinstance(arg, str) and arg.startswith("--"))
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "add_argument", add)
        for name, (module, _) in cli.PROGRAMS.items():
            if name != "train":
                with contextlib.suppress(SystemExit):
                    importlib.import_module(module).main(["--help"], name)
    return found


@pytest.mark.parametrize("path", PAGES, ids=IDS)
class TestPages:
    def test_links_lead_somewhere(self, path: pathlib.Path) -> None:
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text())):
            if "://" in target:
                continue
            name, _, anchor = target.partition("#")
            file = (path.parent / name).resolve() if name else path
            assert file.exists(), target
            if anchor:
                assert anchor in anchors(file), target

    def test_commands_have_flags_that_exist(
        self, path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
    ) -> None:
        monkeypatch.chdir(ROOT)
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        for words in commands(path.read_text()):
            line = " ".join(words)
            if words[0] == "make":
                for word in words[1:]:
                    assert "=" in word or word in targets, line
            elif words[0] == "dreamerv2" or words[:3] == ["python", "-m", "dreamerv2"]:
                rest = words[1 if words[0] == "dreamerv2" else 3 :]
                if rest != ["--help"]:
                    assert rest[0] in cli.PROGRAMS, line
                    check_flags(rest[0], rest[1:], monkeypatch)
            elif words[:2] == ["python", "-m"] and words[2].startswith("dreamerv2."):
                assert importlib.util.find_spec(words[2]), line
            elif words[0] == "python" and words[1] in scripts():
                check_flags(scripts()[words[1]], words[2:], monkeypatch)
            elif words[0] == "python" and words[1].endswith(".py"):
                own = words[1].startswith(("benchmarks/", "examples/", "demo/", "scores/"))
                assert not own or (ROOT / words[1]).exists(), line
            elif words[:2] == ["pip", "install"] or words[:3] == ["python", "-m", "venv"]:
                for extra in re.findall(r"^\.\[(\w+)\]$", line, re.MULTILINE):
                    assert f'"{extra}": ' in (ROOT / "setup.py").read_text(), line
            else:
                assert words[0] in FOREIGN, line

    def test_flags_and_files_named_in_the_text_exist(
        self, path: pathlib.Path, known_flags: set[str]
    ) -> None:
        if path.name == "CHANGELOG.md":
            return  # Tells of what is gone, too.
        for code in re.findall(r"`([^`\n]+)`", prose(path.read_text())):
            for flag in re.findall(r"(?:^|\s)(--[a-z]\w*(?:[-.]\w+)*)", code):
                assert flag in known_flags or code.split()[0] in FOREIGN | {"pip", "uv"}, code
            if re.fullmatch(r"(?:dreamerv2|tests|docs|benchmarks|examples|scores)/[\w/.-]+", code):
                assert (ROOT / code).exists(), code

    def test_python_compiles_and_imports_what_exists(self, path: pathlib.Path) -> None:
        for language, block in blocks(path.read_text()):
            if language != "python":
                continue
            tree = ast.parse(block, str(path))
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dreamerv2"):
                    for alias in node.names:
                        check_name(node.module or "", alias.name)
                if isinstance(node, ast.Import):
                    for alias in node.names:
                        if alias.name.startswith("dreamerv2"):
                            assert importlib.util.find_spec(alias.name), alias.name


def check_name(module: str, name: str) -> None:
    """Fail unless `from module import name` would work; nothing heavy is imported."""
    spec = importlib.util.find_spec(module)
    assert spec and spec.origin, module
    if importlib.util.find_spec(f"{module}.{name}") if spec.submodule_search_locations else None:
        return
    names: set[str] = set()
    for node in ast.parse(pathlib.Path(spec.origin).read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        for child in ast.walk(node) if isinstance(node, (ast.Assign, ast.AnnAssign)) else ():
            if isinstance(child, ast.Name):
                names.add(child.id)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
    assert name in names, f"from {module} import {name}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The site, built as `make docs` does, where a warning is an error."""
    pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    folder = tmp_path_factory.mktemp("site")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return folder


class TestSite:
    def test_has_every_page(self, site: pathlib.Path) -> None:
        built = {path.stem for path in site.glob("*.html")}
        assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= built
        assert {"index", "configuration", "score_data", "changelog", "contributing"} <= built
        assert not (site / "hooks.py").exists()

    def test_fetches_nothing_from_other_servers(self, site: pathlib.Path) -> None:
        for path in site.glob("*.html"):
            text = path.read_text()
            tags = re.findall(r"<(?:link|script|img|iframe)\b[^>]*>", text)
            assert not [tag for tag in tags if re.search(r"(?:href|src)=\"?(?:https?:)?//", tag)]
            assert "unpkg.com" not in text

    def test_explains_every_key_and_configuration(self, site: pathlib.Path) -> None:
        text = (site / "configuration.html").read_text()
        document = flags.Document.read(CONFIGS)
        for key, meaning in document.help.items():
            assert f"<code>{key}</code>" in text, key
            assert meaning.split("`")[0].split("<")[0].split("'")[0].strip() in text, key
        for name in document.overlays:
            assert f'id="{name}"' in text

    def test_every_key_has_a_comment(self) -> None:
        document = flags.Document.read(CONFIGS)
        assert set(document.help) == set(document.defaults.flat)


def test_links_are_changed_for_the_site() -> None:
    rewrite = load_hooks().rewrite_links
    assert rewrite("[a](docs/plots.md#b)", "index.md") == "[a](plots.md#b)"
    assert rewrite("![a](docs/figures/x.png)", "index.md") == "![a](figures/x.png)"
    assert rewrite("[a](../scores/README.md)", "scores.md") == "[a](score_data.md)"
    assert rewrite("[a](../docs/scores.md)", "score_data.md") == "[a](scores.md)"
    assert rewrite("[`k`](../dreamerv2/configs.yaml)", "x.md") == "[`k`](configuration.md)"
    assert rewrite("see [LICENSE](LICENSE).", "index.md") == "see LICENSE."
    assert rewrite("[a](https://b.c/d#e) [f](#g)", "index.md") == "[a](https://b.c/d#e) [f](#g)"
    linked = "[![a](docs/figures/x.png)](docs/plots.md)"
    assert rewrite(linked, "index.md") == "[![a](figures/x.png)](plots.md)"
    code = "```\n[a](docs/plots.md)\n```"
    assert rewrite(code, "index.md") == code
