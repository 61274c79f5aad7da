"""Run the notebooks of this folder and store what their cells print and draw.

    python docs/notebooks/build.py                  all of them
    python docs/notebooks/build.py similarity       one of them

Jupyter is not needed: the cells are run in order, in one namespace and in an empty folder. A notebook bears
a checksum of its code, so that a test can tell that its outputs are those of its cells. Nothing that is
stored depends on the time of the run.
"""

import hashlib
import io
import json
import os
import sys
from base64 import b64encode
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FOLDER = Path(__file__).parent
DPI = 72
COLORS = 64
"""Of a stored figure: enough for curves and for gray images, at a third of the size."""

Notebook = dict[str, Any]


def read_notebook(path: Path) -> Notebook:
    """Return a notebook's content."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def list_code_cells(notebook: Notebook) -> list[dict[str, Any]]:
    """Return the code cells in order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def compute_code_digest(notebook: Notebook) -> str:
    """Return the checksum of all code of a notebook."""
    sources = ["".join(cell["source"]) for cell in list_code_cells(notebook)]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def run_cells(notebook: Notebook, name: str, *, store: bool) -> dict[str, Any]:
    """Run the code cells in order, in the current folder.

    Args:
        notebook: of :func:`read_notebook`.
        name: for tracebacks.
        store: whether the cells get what they print and draw as their outputs.

    Returns:
        The names that the cells leave.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(list_code_cells(notebook), start=1):
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile("".join(cell["source"]), f"{name}, cell {number}", "exec"), names)
        figures = _take_figures(draw=store)
        if store:
            cell["execution_count"] = number
            cell["outputs"] = _make_outputs(printed.getvalue(), figures)
    return names


def renew_outputs(path: Path) -> None:
    """Run a notebook and write it back with its outputs."""
    notebook, before = read_notebook(path), Path.cwd()
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            run_cells(notebook, path.name, store=True)
        finally:
            os.chdir(before)
    notebook["metadata"]["regflow"] = {"code_sha256": compute_code_digest(notebook)}
    text = json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _take_figures(*, draw: bool) -> list[bytes]:
    """Close the open figures; return them as PNG where they are to be drawn."""
    import matplotlib.pyplot as plt

    drawn = [_draw_png(plt.figure(number)) for number in plt.get_fignums()] if draw else []
    plt.close("all")
    return drawn


def _draw_png(figure: Any) -> bytes:
    from PIL import Image

    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png", dpi=DPI)
    with Image.open(full) as image:
        image.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()


def _make_outputs(printed: str, figures: list[bytes]) -> list[dict[str, Any]]:
    """Return outputs in the form of nbformat 4."""
    text = {"output_type": "stream", "name": "stdout", "text": printed.splitlines(keepends=True)}
    pictures = [
        {"output_type": "display_data", "metadata": {}, "data": {"image/png": b64encode(png).decode()}}
        for png in figures
    ]
    return [text, *pictures] if printed else pictures


def main(names: list[str]) -> None:
    """Renew the notebooks of these names, or all."""
    for path in [FOLDER / f"{name}.ipynb" for name in names] or sorted(FOLDER.glob("*.ipynb")):
        sys.stdout.write(f"{path.name}\n")
        renew_outputs(path)


if __name__ == "__main__":
    main(sys.argv[1:])
