"""What mkdocs adds to the pages: notebooks, tables of methods, the guideline, and pages from elsewhere."""

import json
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import yaml

from regflow.methods import detect, initialize, preprocess, refine
from regflow.methods.guideline import BRANCHES, Branch
from regflow.methods.table import Method, list_methods_of_kind
from regflow.training.settings import RECIPES
from regflow.training.tasks import TASKS

ROOT = Path(__file__).parents[1]
NOTEBOOKS = "docs/notebooks"
PAGES = {
    "reference/volumes.md": "config/README.md",
    "reference/rasters.md": "config/rasters/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    **{
        f"notebooks/{path.stem}.md": f"{NOTEBOOKS}/{path.name}"
        for path in sorted((ROOT / NOTEBOOKS).glob("*.ipynb"))
    },
}
"""Pages of the site by their place in it, and the files of the clone that they show."""

TABLES: Mapping[str, Mapping[str, Method]] = {
    "mask": preprocess.MASKS,
    "denoise": preprocess.DENOISE,
    "bias": preprocess.BIAS,
    "intensity": preprocess.INTENSITY,
    "initialize": initialize.METHODS,
    "refine": refine.METHODS,
    "detect": detect.METHODS,
}
TASKS_MARK = "<!-- tasks -->"
CANON = ROOT / "benchmarks" / "results" / "canon.json"
_MARK = re.compile(r"^<!-- methods: (\w+) (volumes|rasters) -->$", re.MULTILINE)
_GUIDELINE = re.compile(r"^<!-- guideline: (volumes|rasters) -->$", re.MULTILINE)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that live outside ``docs``, and those of the notebooks with their figures."""
    from mkdocs.structure.files import File

    for place, source in PAGES.items():
        content = (ROOT / source).read_text(encoding="utf-8")
        if source.endswith(".ipynb"):
            content, figures = render_notebook(json.loads(content), Path(source).stem)
            for name, png in figures.items():
                files.append(File.generated(config, f"notebooks/{name}", content=png))
        files.append(File.generated(config, place, content=content))
    return files


def render_notebook(notebook: Mapping[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as a page, with the outputs that it stores, and its figures by file name."""
    parts, figures = [], {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            if output["output_type"] == "stream":
                parts.append(f"```{{ .text .output }}\n{''.join(output['text'])}```")
            else:
                place = f"{name}-{len(figures) + 1}.png"
                figures[place] = b64decode(output["data"]["image/png"])
                parts.append(f"![What the code above draws]({place})")
    parts.append(f"[Download this notebook]({name}.ipynb)")
    return "\n\n".join(parts) + "\n", figures


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the tables of methods and the guideline in the place of their marks."""
    charted = _GUIDELINE.sub(lambda mark: "\n".join(_chart(BRANCHES[mark[1]])), markdown)
    listed = charted.replace(TASKS_MARK, "\n".join(_list_tasks()))
    return _MARK.sub(lambda mark: "\n".join(_rows(TABLES[mark[1]], mark[2])), listed)


def _list_tasks() -> Iterator[str]:
    """Yield the lines of a table of what can be learned, with the recipes of each task."""
    recipes: dict[str, list[str]] = {name: [] for name in TASKS}
    for path in sorted(RECIPES.glob("*.yaml")):
        trained = yaml.safe_load(path.read_text(encoding="utf-8"))["train"]
        recipes[trained.get("task", next(iter(TASKS)))].append(path.stem)
    yield "| task | what it teaches | recipes | source |"
    yield "|---|---|---|---|"
    for name, row in TASKS.items():
        named = ", ".join(f"`{recipe}`" for recipe in recipes[name])
        yield f"| `{name}`{{ .method }} | {row.summary} | {named} | {row.citation} |"


def _chart(branches: Sequence[Branch]) -> Iterator[str]:
    """Yield a flow chart: questions one below the other, their answers beside them."""
    yield '<div class="guideline">'
    for branch in branches:
        ladders = "; ".join(
            f"{stage}: {', '.join(f'<code>{name}</code>' for name in names)}"
            for stage, names in (("initialize", branch.initialize), ("refine", branch.refine))
        )
        last = branch is branches[-1]
        yield f'<div class="question{" last" if last else ""}">{escape(branch.question)}</div>'
        figures = "".join(f"<br>{line}" for line in _cite(branch))
        yield f'<div class="answer">{ladders}<br><small>{escape(branch.why)}{figures}</small></div>'
    yield "</div>"


def _cite(branch: Branch) -> Iterator[str]:
    """Yield what the benchmark of all methods found of a branch's, a line for each of its tables."""
    if not CANON.is_file():
        return
    results = json.loads(CANON.read_text(encoding="utf-8"))["results"]
    for part, case in branch.measured:
        rows = {row["method"]: row for row in results.get(part, ()) if row["case"] == case}
        told = [
            f"{escape(name)} {rows[name]['solved']} of {rows[name]['pairs']}"
            f" ({rows[name]['error_median']:.2g}, {rows[name]['cpu_s']:.1f} s)"
            for name in (*branch.initialize, *branch.refine)
            if name in rows and rows[name]["error_median"] is not None
        ]
        if told:
            yield f"{escape(part)}, {escape(case)}: {'; '.join(told)}"


def _rows(table: Mapping[str, Method], kind: str) -> Iterator[str]:
    """Yield the lines of a table of the methods that serve a kind of image."""
    yield "| method | what it does | source |"
    yield "|---|---|---|"
    for name, method in list_methods_of_kind(table, kind).items():
        yield f"| `{name}`{{ .method }} | {method.summary} | {method.citation} |"
