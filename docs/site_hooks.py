"""What the documentation's build adds to the files of `docs/`: pages of the environments and notebooks, the changelog, addresses.

`mkdocs.yml` names this file under `hooks`.
"""

from __future__ import annotations

import configparser
import logging
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OUTWARD = re.compile(r"\]\(\.\./((?!\.\.)[\w./-]+)(#[\w-]+)?\)")  # a link from a page in docs/ to a file outside of it
FROM_ROOT = re.compile(r"\]\((?!https?:|#|docs/)([\w./-]+)(#[\w-]+)?\)")  # one from a file beside docs/
EXAMPLES = re.compile(r"\]\((examples(?:/[\w.]+)?)\)")  # programs, which are no pages
INWARD = re.compile(r"\]\(docs/([\w./-]+)((?:#[\w-]+)?)\)")
MOVED = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
log = logging.getLogger("mkdocs.hooks.emp_gym")


def on_config(config: Any) -> Any:
    """The repository's address stands in setup.cfg alone; ids appear in the navigation by themselves."""
    sys.path.insert(0, str(HERE))
    import environment_pages

    config.repo_url, config.repo_name = repository(), "Source"
    for section in config.nav:
        if "Environments" in section:
            section["Environments"] += [{name: f"environments/{name}.md"} for name in environment_pages.names()]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds what is made."""
    import environment_pages

    for name, content in environment_pages.pages().items():
        files.append(File.generated(config, f"environments/{name}", content=content))
    import command_pages

    files.append(File.generated(config, "commands.md", content=command_pages.page()))
    import notebook_pages

    for name, content in notebook_pages.pages().items():
        files.append(File.generated(config, f"notebooks/{name}", content=content))
    for source, page in MOVED.items():
        if (ROOT / source).exists():
            files.append(File.generated(config, page, content=from_root((ROOT / source).read_text(encoding="utf-8"))))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to files that are no pages lead into the repository."""
    if "/" in page.file.src_uri:
        return markdown
    markdown = EXAMPLES.sub(lambda found: f"]({blob('docs/' + found[1])})", markdown)
    return OUTWARD.sub(lambda found: outward(found[1], found[2] or ""), markdown)


def outward(path: str, anchor: str) -> str:
    """A link to a file of the repository, or to its page."""
    if path in MOVED:
        return f"]({MOVED[path]}{anchor})"
    if not (ROOT / path).exists():
        log.warning("a link leads to '%s', which is not in the repository", path)
    return f"]({blob(path)}{anchor})"


def from_root(text: str) -> str:
    """A file beside `docs/` as if it stood in there."""
    text = FROM_ROOT.sub(lambda found: outward(found[1], found[2] or ""), text)
    return INWARD.sub(lambda found: f"]({found[1]}{found[2]})", text)


def blob(path: str) -> str:
    return f"{repository()}/blob/main/{path}"


def repository() -> str:
    """Source under project_urls of setup.cfg."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    addresses = dict(line.split(" = ", 1) for line in parser["metadata"]["project_urls"].strip().split("\n"))
    return addresses["Source"]
