"""Publish the last runs: JSON from ``out/`` into ``results/``, the tables of all results into README.md."""

from typing import Any

from benchmarks.common import HERE, OUT, text_of
from benchmarks.deformable import COLUMNS
from benchmarks.mosaic import COLUMNS as MOSAICS
from benchmarks.stack import COLUMNS as STACKS
from benchmarks.template import COLUMNS as TEMPLATES
from regflow.core.files import read_json, write_json, write_whole

STARTS = ["case", "starts", "missed", "silent", "false_alarms", "tre_mm_mean", "tre_mm_max", "seconds_mean"]
TIE_POINTS = ["program", "points", "used", "tie_rmse_px", "tie_p95_px", "field_rmse_px", "seconds"]
TIE_POINTS += ["cpu_seconds", "peak_gb"]
SCENES = ["job", "side_px", "cpu_seconds", "cpu_ms_per_megapixel", "seconds", "peak_mb", "flat"]
LEARNING = ["method", "epe_px_mean", "epe_px_p95", "cpu_seconds", "note"]
LEARNING_VOLUMES = [
    "method",
    "deformable_s",
    "cpu_s",
    "affine_s",
    "tre_mm_mean",
    "tre_mm_p95",
    "tissue_dice",
    "folding_percent",
    "log_jacobian_std",
]

CANON = ["case", "method", "pairs", "error_median", "error_mean", "solved", "refused", "silent", "cpu_s"]
CANON += ["parameters", "training_min"]
VERDICTS = ["kind", "result", "counted", "pass", "warn", "fail", "wrongly_judged", "percent"]

START, END = "<!-- results -->", "<!-- end of results -->"


def main() -> None:
    """Copy every new result and rewrite the README's section between its two marks."""
    sections = []
    for name, tables in TABLES.items():
        path = HERE / "results" / f"{name}.json"
        if (OUT / path.name).is_file():
            write_json(path, read_json(OUT / path.name))
        if not path.is_file():
            continue
        content = read_json(path)
        machine = content["machine"]
        units = {True: " with AMX", False: " without AMX"}.get(machine.get("amx"), "")
        sections.append(f"### {name}\n\n{machine['cpu']}{units}, {machine['threads']} threads.")
        sections += [_markdown(*table) for table in tables(content["results"])]
    readme = HERE / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    with write_whole(readme) as part:
        part.write_text("\n".join([before + START, "", "\n\n".join(sections), "", END + after]))


def _deformable(results: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]], list[str]]]:
    return [(name, rows, COLUMNS) for name, rows in results.items()]


def _pair_cold(results: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]], list[str]]]:
    stages = [
        "method",
        "process_s",
        "ingest",
        "preprocess",
        "initialize",
        "refine",
        "apply",
        "assess",
        "report",
    ]
    return [
        (name, content["rows"], [*stages, "affine", "deformable", "affine and deformable"])
        for name, content in results.items()
    ]


TABLES = {
    "deformable": _deformable,
    "pair_cold": _pair_cold,
    "memory": lambda rows: [("256x256x256", rows, ["stage", "peak_gb", "seconds"])],
    "determinism": lambda rows: [("one and two threads", rows, ["initialize", "refine", "identical"])],
    "rigid_starts": lambda rows: [("starts", rows, STARTS)],
    "tie_points": lambda results: [
        (f"{side} x {side} pixels", rows, TIE_POINTS) for side, rows in results.items()
    ],
    "raster_starts": lambda results: [(name, rows, list(rows[0])) for name, rows in results.items()],
    "multimodal_starts": lambda results: [("by kind", results["kinds"], list(results["kinds"][0]))],
    "verdicts": lambda results: [("what regflow says of them", results["rows"], VERDICTS)],
    "dates": lambda results: [("by group", results["groups"], list(results["groups"][0]))],
    "scenes": lambda results: [("by side", results["rows"], SCENES)],
    "change": lambda results: [
        (name, results[name], list(results[name][0])) for name in ("large", "planted")
    ],
    "learning": lambda results: [(name, rows, LEARNING_VOLUMES) for name, rows in results.items()],
    "learning_scenes": lambda results: [(name, rows, LEARNING) for name, rows in results.items()],
    "fine_tuning": lambda results: [(name, rows, list(rows[0])) for name, rows in results.items()],
    "canon": lambda results: [(name, rows, CANON) for name, rows in results.items()],
    "mosaic": lambda results: [("mosaics", results["rows"], MOSAICS)],
    "stack": lambda results: [("stacks of sections", results["rows"], STACKS)],
    "template": lambda results: [(name, rows, TEMPLATES) for name, rows in results.items()],
    "cohort": lambda results: [(name, rows, list(rows[0])) for name, rows in results.items()],
    "startup": lambda rows: [("median seconds", rows, ["job", "seconds", "added_s"])],
}


def _markdown(title: str, rows: list[dict[str, Any]], columns: list[str]) -> str:
    used = [column for column in columns if any(row.get(column) is not None for row in rows)]
    lines = ["| " + " | ".join(used) + " |", "|" + "---|" * len(used)]
    lines += ["| " + " | ".join(text_of(row.get(column)) for column in used) + " |" for row in rows]
    return f"{title}:\n\n" + "\n".join(lines)


if __name__ == "__main__":
    main()
