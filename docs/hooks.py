"""Pages of the site that are made of other files, so that nothing is written down twice.

mkdocs calls `on_files` and `on_page_markdown`. The home page is the README; the changes, the notes
for contributors and the description of the score data are the files of the repository; the page of
configuration keys is made of the comments and rules in `configs.yaml`.

In the sources every link is relative to the file that it stands in and so works in a checkout, too.
For the site, links to files that have become pages are changed to those pages, and links to other
files outside of `docs` to plain text.
"""

from __future__ import annotations

import pathlib
import posixpath
import re
from typing import TYPE_CHECKING, Any

from dreamerv2.common import config as configs
from dreamerv2.common import flags
from dreamerv2.common.schema import Schema, show

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "dreamerv2" / "configs.yaml"

# File of the repository -> its page. The first four become pages as they are.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "scores/README.md": "score_data.md",
    "dreamerv2/configs.yaml": "configuration.md",
    "configs.yaml": "configuration.md",
}
_COPIED = [name for name in PAGES if name.endswith(".md")]

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of other files."""
    from mkdocs.structure.files import File

    texts = {PAGES[name]: (ROOT / name).read_text(encoding="utf-8") for name in _COPIED}
    texts["configuration.md"] = configuration_page()
    for page, text in texts.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Change the links of a page to those of the site."""
    return rewrite_links(markdown, page.file.src_uri)


def rewrite_links(markdown: str, page: str) -> str:
    """Change links that are relative to a file of the repository to those of its page.

    Args:
        markdown: Text of the file.
        page: Name of its page, such as `scores.md`.
    """
    sources = {PAGES[name]: name for name in _COPIED}
    folder = posixpath.dirname(sources.get(page, f"docs/{page}"))

    def change(match: re.Match[str]) -> str:
        image, text, target = match.groups()
        text = _LINK.sub(change, text)  # A picture may be the text of a link.
        path, _, anchor = target.partition("#")
        if not path or "://" in target or target.startswith("mailto:"):
            return f"{image}[{text}]({target})"
        path = posixpath.normpath(posixpath.join(folder, path))
        if path in PAGES:
            path = PAGES[path]
        elif path.startswith("docs/"):
            path = path.removeprefix("docs/")
        else:
            return text  # A file that has no page.
        return f"{image}[{text}]({path}{'#' if anchor else ''}{anchor})"

    parts = _FENCE.split(markdown)
    parts[::2] = [_LINK.sub(change, part) for part in parts[::2]]
    return "".join(parts)


def configuration_page() -> str:
    """Return the page that explains every key and every named configuration."""
    document = flags.Document.read(CONFIGS)
    rules = configs.parse_yaml(configs.read_text(CONFIGS), "safe", CONFIGS.name)
    schema = Schema(rules.get("rules"))
    lines = [
        "# Every configuration key",
        "",
        "Made of `dreamerv2/configs.yaml`, which `dreamerv2 train --help` prints, too. Flags apply",
        "in order, after the named configurations: `--configs atari small --rssm.deter 400`. Lists",
        "are written `--key 64 64` or `--key 64,64`. A key may be a regular expression over whole",
        "keys: `--'.*\\.norm' layer`. Durations are in agent steps unless the meaning says",
        "otherwise; metrics and plots are in frames.",
    ]
    for key, value in document.defaults.flat.items():
        if key in document.headings:
            lines += ["", f"## {document.headings[key]}", ""]
            lines += ["| key | default | values | meaning |", "| --- | --- | --- | --- |"]
        field = schema.field(key, value)
        cells = [f"`{key}`", f"`{show(value)}`", field.expected, document.help.get(key, "")]
        lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    lines += ["", "## Named configurations", ""]
    for name, about in document.about.items():
        changed = flags.build(document, [name]).flat
        lines += [f"### {name}", "", about, "", "```yaml"]
        for key, value in changed.items():
            if value != (default := document.defaults.flat[key]):
                lines.append(f"{key}: {show(value)}  # {show(default)} in defaults")
        lines += ["```", ""]
    return "\n".join(lines) + "\n"


def _cell(text: Any) -> str:
    """Keep what means something to tables or to HTML from doing so."""
    if not text.startswith("`"):
        text = text.replace("<", "&lt;").replace("*", "\\*")
    return text.replace("|", "\\|")
