"""The notebooks: each runs from the first cell to the last (slow), they are stored as they are written, and the files that they save are
those of the pages."""

from __future__ import annotations

import base64
import importlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
LINK = re.compile(r"\]\((?!https?:|#)([\w./-]+)(?:#[\w-]+)?\)")
MADE = {"security.md", "changelog.md", "contributing.md", "commands.md"}  # by the documentation's build
PIXEL = base64.b64encode(b"a picture").decode()


def cells(path: Path, kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def tool(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module(name)


def stored(folder: Path, name: str, *made: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.ipynb"
    path.write_text(json.dumps({"cells": list(made), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


def code(source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "id": f"cell-{len(source)}",
        "metadata": {},
        "execution_count": None,
        "source": source,
        "outputs": list(outputs),
    }


TITLE = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# A title"}


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_in_an_empty_folder_and_shows_pictures(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool("run_notebooks", monkeypatch).execute(path, tmp_path)
    made = tool("notebook_pages", monkeypatch).pages(path.parent, tmp_path)
    pictures = [content for name, content in made.items() if name.startswith(path.stem) and isinstance(content, bytes)]
    assert pictures and all(picture.startswith(b"\x89PNG") and len(picture) > 5_000 for picture in pictures)


def test_there_are_four_and_each_has_a_page_in_the_navigation() -> None:
    named = re.findall(r"notebooks/(\w+)\.md", (ROOT / "mkdocs.yml").read_text())
    assert sorted(named) == [path.stem for path in NOTEBOOKS] and len(named) == 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_is_stored_without_outputs_and_its_links_lead_somewhere(path: Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None, (
            "run docs/run_notebooks.py; store it clean"
        )
    for text in cells(path, "markdown"):
        for target in LINK.findall(text):
            assert (path.parent / target).exists() or Path(target).name in MADE, target


@pytest.mark.parametrize("name", ["task", "reward", "agent"])
def test_the_file_that_the_notebook_saves_is_that_of_the_page(name: str) -> None:
    saved = next(
        text
        for text in cells(DOCS / "notebooks" / "your_own.ipynb", "code")
        if text.startswith(f"%%writefile my_{name}.py\n")
    )
    page = re.search(
        rf"^```python\n# my_{name}\.py\n(.*?)^```", (DOCS / f"own_{name}.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert page and saved.partition("\n")[2].strip() == page[1].strip()


def test_what_the_notebook_calls_honest_is_the_honest_setting() -> None:
    text = next(
        text for text in cells(DOCS / "notebooks" / "governed_promotion.ipynb", "code") if "\nhonest = " in text
    )
    told = dict(pair.split("=") for pair in re.findall(r"env\.(\w+=[\w.]+)", text))
    assert {key: yaml.safe_load(value) for key, value in told.items()} == yaml.safe_load(
        (ROOT / "configs" / "honest.yaml").read_text()
    )["env"]


def test_a_cell_that_fails_is_told_and_what_was_shown_before_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tool("run_notebooks", monkeypatch)
    path = stored(tmp_path / "in", "bad", TITLE, code("print(6 * 7)"), code("1 / 0"))
    with pytest.raises(run.CellExecutionError, match="ZeroDivisionError"):
        run.execute(path, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "bad.ipynb").read_text())["cells"][1]["outputs"][0]["text"] == ["42\n"]


def test_a_page_shows_what_exactly_its_cells_have_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tool("notebook_pages", monkeypatch)
    written = {"output_type": "stream", "name": "stdout", "text": "\x1b[1m10%\r100% done\x1b[0m\n"}
    more = {"output_type": "stream", "name": "stderr", "text": ["all\n"]}
    drawn = {"output_type": "display_data", "metadata": {}, "data": {"image/png": PIXEL, "text/plain": "<Image>"}}
    stored(tmp_path / "in", "one", TITLE, code("draw()"))
    stored(tmp_path / "out", "one", TITLE, code("draw()", written, more, drawn))
    made = page.pages(tmp_path / "in", tmp_path / "out")
    assert made["one_1_1.png"] == b"a picture" and "(one_1_1.png)" in made["one.md"]
    assert "```text\n100% done\nall\n```" in made["one.md"] and page.NOT_RUN not in made["one.md"]
    stored(tmp_path / "in", "one", TITLE, code("draw(2)"))
    made = page.pages(tmp_path / "in", tmp_path / "out")
    assert list(made) == ["one.md"] and page.NOT_RUN in made["one.md"] and "done" not in made["one.md"]
