"""``regflow compare``: every method on one pair, a table, a page, and a ladder to copy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.config.workflow import WORKFLOWS
from regflow.core.errors import InputError
from regflow.core.extent import measure_ball_diameter, measure_longest_side
from regflow.core.files import write_json, write_whole
from regflow.core.image import Image
from regflow.core.progress import StageListener, ignore_events
from regflow.core.transform import Affine
from regflow.datasets.known_pairs import draw_partners
from regflow.io.text_files import write_tsv
from regflow.methods.guideline import (
    Branch,
    PairFacts,
    describe_facts,
    find_branch,
    gather_facts,
    measure_motion,
)
from regflow.metrics.catalogs import CATALOGS
from regflow.pipeline.carry import read_any_transform
from regflow.pipeline.comparison import (
    DEFAULT,
    OWN,
    ComparedPair,
    ComparisonSettings,
    Trial,
    choose_methods,
    find_result,
    list_default_ladders,
    plan_trials,
    refuse_foreign_folder,
    run_trials,
)
from regflow.pipeline.known_truth import make_known_pairs, make_own_pair, read_fixed_image
from regflow.pipeline.pair_options import describe_pair
from regflow.pipeline.recommendation import (
    SOLVED_SAMPLES,
    MethodRow,
    Recommendation,
    TrialOutcome,
    choose_ladders,
    gather_rows,
)

PRODUCTS = {"volumes": "warped.nii.gz", "rasters": "warped.tif"}
UNITS = {"volumes": "mm", "rasters": "px"}
TABLE, RECORD, LADDER, PAGE = "comparison.tsv", "comparison.json", "recommended.yaml", "index.html"


@dataclass(frozen=True)
class ComparisonResult:
    """What a comparison came to.

    Attributes:
        folder: with ``index.html``, ``comparison.tsv``, ``comparison.json`` and ``recommended.yaml``, and
            below ``trials`` the products and the report of every method.
        rows: a row for each method.
        recommendation: the ladder to take, by stage, and why.
        facts: what is known of the pair.
        branch: where on the guideline it lies.
    """

    folder: Path
    rows: Sequence[MethodRow]
    recommendation: Recommendation
    facts: PairFacts
    branch: Branch


def compare_pair(
    own: ComparedPair,
    how: ComparisonSettings,
    *,
    methods: Sequence[str] = (),
    sizes: Mapping[str, Sequence[float] | None],
    seed: int = 0,
    progress: StageListener = ignore_events,
) -> ComparisonResult:
    """Run every method on a pair and on known motions of it, and write what came of it.

    Args:
        own: the pair.
        how: folder, preset, settings and limits.
        methods: to compare; all that fit the kind when there are none.
        sizes: ``moved`` and ``warped``: how far the fixed image is moved, mm or pixels; None for the usual.
        seed: of the motions.
        progress: told when a trial begins and ends.

    Raises:
        InputError: a method is unknown, or the folder holds other files.
    """
    refuse_foreign_folder(how.folder)
    chosen = choose_methods(how.kind, methods)
    first = Trial("refine", DEFAULT, own, how.config)
    outcome = run_trials([first], how, progress)[0]
    if outcome.get("is_input_error"):
        # An image itself is wrong, so there is nothing to compare.
        raise InputError(outcome["reason"])
    usable = outcome["state"] == "done" and outcome["status"] != "fail"
    shown = read_fixed_image(how.kind, own, find_result(how, first) / PRODUCTS[how.kind] if usable else None)
    facts = _gather_facts(how, own, outcome, shown.image)
    pairs = make_known_pairs(how, shown, sizes, seed)
    trials = list(plan_trials(chosen, [own, *pairs], how.config))
    outcomes = run_trials(trials, how, progress)
    starts, spacing = _measure_starts(how.kind, pairs)
    in_units = [_in_units(how.kind, found, spacing) for found in outcomes]
    rows = gather_rows(trials, in_units, starts, 1.0 if how.kind == "rasters" else spacing)
    found = choose_ladders(rows, list_default_ladders(how))
    result = ComparisonResult(how.folder, rows, found, facts, find_branch(facts))
    _write(result, own, how, pairs, starts, spacing)
    return result


def compare_sample(output: str | Path, *, sample: Any, settings: Mapping[str, Any], threads: int) -> None:
    """Compare methods on a sample of a cohort.

    Args:
        output: the page to write; everything else lies beside it.
        sample: with its fixed image.
        settings: the complete configuration.
        threads: most threads of all methods together.

    Raises:
        InputError: an image is wrong.
    """
    asked, kind = settings["compare"], settings["kind"]
    config = {name: settings[name] for name in ("seed", *WORKFLOWS[kind].stages) if name in settings}
    how = ComparisonSettings(kind, Path(output).parent, "default", config, asked["time_limit"], threads)
    compare_pair(
        make_own_pair(sample.fixed.image, sample.moving, describe_pair(sample, kind)),
        how,
        methods=asked["methods"] or (),
        sizes={name: asked[name] for name in ("moved", "warped")},
        seed=settings["seed"],
    )


def _gather_facts(
    how: ComparisonSettings, own: ComparedPair, outcome: TrialOutcome, fixed: Image
) -> PairFacts:
    """Return what is known of the pair, its motion by what the default ladder came to."""
    grid = fixed.grid
    unit = 1.0 if how.kind == "volumes" else float(np.sqrt(np.prod(grid.spacing)))
    if outcome["state"] != "done":
        return gather_facts(how.kind, own.given, outcome, unit)
    folder = find_result(how, Trial("refine", DEFAULT, own, {}))
    transform = read_any_transform(folder / "transform.h5" if how.kind == "volumes" else folder, grid)
    points, _ = draw_partners(fixed, Affine.identity(grid.ndim), 0)
    size = measure_ball_diameter(fixed.mask, grid) if how.kind == "volumes" else measure_longest_side(grid)
    motion = {**measure_motion(transform, points), "size": size}
    return gather_facts(how.kind, own.given, {**outcome, "motion": motion}, unit)


def _measure_starts(kind: str, pairs: Sequence[ComparedPair]) -> tuple[dict[str, float], float]:
    """Return the mean distances before any registration, mm or pixels, and the spacing of the fixed image."""
    from regflow.pipeline.exchange import StoredImage, read_stored_grid

    starts, spacing = {}, 1.0
    for pair in pairs:
        grid = read_stored_grid(StoredImage(pair.fixed, kind, "the fixed image"))
        spacing = float(np.prod(grid.spacing) ** (1 / grid.ndim))
        with np.load(str(pair.truth), allow_pickle=False) as points:
            apart = float(np.linalg.norm(points["fixed"] - points["moving"], axis=1).mean())
        starts[pair.name] = apart / spacing if kind == "rasters" else apart
    return starts, spacing


def _in_units(kind: str, outcome: TrialOutcome, spacing: float) -> TrialOutcome:
    """Return an outcome whose distances are in pixels where it is of scenes."""
    if kind == "volumes" or not outcome.get("truth"):
        return outcome
    return {**outcome, "truth": {name: value / spacing for name, value in outcome["truth"].items()}}


def _write(
    result: ComparisonResult,
    own: ComparedPair,
    how: ComparisonSettings,
    pairs: Sequence[ComparedPair],
    starts: Mapping[str, float],
    spacing: float,
) -> None:
    """Write the ladder, the record, the table and the page."""
    import yaml

    ladder = {stage: {"methods": list(names)} for stage, names in result.recommendation.ladders.items()}
    text = yaml.safe_dump(ladder, sort_keys=False)
    with write_whole(how.folder / LADDER) as part:
        part.write_text(text, encoding="utf-8")
    record = {
        "fixed": own.fixed,
        "moving": own.moving,
        "starts": starts,
        "rows": [vars(row) for row in result.rows],
        "recommendation": vars(result.recommendation),
        "facts": vars(result.facts),
        "question": result.branch.question,
    }
    write_json(how.folder / RECORD, record)
    _write_table(how.folder / TABLE, result.rows, [pair.name for pair in pairs], how.kind)
    page = _render_page(result, own, how, pairs, starts, spacing, text)
    with write_whole(how.folder / PAGE) as part:
        part.write_text(page, encoding="utf-8")


def _write_table(path: Path, rows: Sequence[MethodRow], motions: Sequence[str], kind: str) -> None:
    figures = sorted({name for row in rows for name in (row.own or {}).get("figures", {})})
    errors = {f"{name.replace(' ', '_')}_error_{UNITS[kind]}": name for name in motions}
    columns = ["stage", "method", "status", "reason", *errors, "seconds", "cpu_seconds", "peak_mb", *figures]
    lines = []
    for row in rows:
        own = row.own or {}
        known = [row.truth.get(name, {}).get("truth", {}).get("mean") for name in errors.values()]
        spent = [row.seconds, row.cpu_seconds, row.peak_mb]
        values = [own.get("figures", {}).get(name) for name in figures]
        lines.append([row.stage, row.method, own.get("status"), own.get("reason"), *known, *spent, *values])
    write_tsv(path, columns, lines)


def _render_page(
    result: ComparisonResult,
    own: ComparedPair,
    how: ComparisonSettings,
    pairs: Sequence[ComparedPair],
    starts: Mapping[str, float],
    spacing: float,
    config: str,
) -> str:
    from regflow.reporting.shared.comparison import render_comparison_page

    unit, found = UNITS[how.kind], result.recommendation
    ladder = "; ".join(f"{stage}: {', '.join(names)}" for stage, names in found.ladders.items())
    is_default = all(found.is_default.values())
    sentence = f"The default ladder serves this pair: {ladder}." if is_default else f"Take {ladder}."
    own_unit = 1.0 if how.kind == "rasters" else spacing
    before = ", ".join(f"{name} {distance:.3g} {unit}" for name, distance in starts.items())
    told = [
        "The known motions are of the fixed image: it was turned and shifted, or warped smoothly, and given "
        "the contrast and the noise of the moving image as the default ladder had brought it onto the fixed "
        "one. "
        f"Mean distances before the registration: {before}.",
        "Linear methods were run alone on what was turned and shifted, without a deformation after them. "
        "Deformable methods were run alone, from the header, on what was warped; on the pair itself they "
        "begin where the default linear methods end. Settings are the defaults of each method, and every "
        "result was judged by the gates of a registration.",
        "Seconds are those of the methods themselves, processor seconds and memory those of the whole "
        "registration with its figures and its report.",
    ]
    return render_comparison_page(
        [_describe_method(row, how) for row in result.rows],
        motions=[pair.name for pair in pairs],
        sentence=sentence,
        reasons=list(found.reasons.items()),
        config=config,
        facts=[("fixed", Path(own.fixed).name), ("moving", Path(own.moving).name), ("preset", how.preset)],
        how=told,
        facts_told=describe_facts(result.facts),
        branch=result.branch,
        unit=unit,
        solved=SOLVED_SAMPLES * own_unit,
        catalog=CATALOGS[how.kind],
        pictures=_read_pictures(result.rows, own, how),
    )


def _describe_method(row: MethodRow, how: ComparisonSettings) -> Any:
    from regflow.reporting.shared.comparison import ComparedMethod

    own = row.own or {}
    failed = {name: found["reason"] for name, found in row.truth.items() if found["state"] == "failed"}
    errors = {name: found["truth"]["mean"] for name, found in row.truth.items() if found["state"] == "done"}
    report = find_result(how, Trial(row.stage, row.method, _own_place(), {})) / "report.html"
    return ComparedMethod(
        name=row.method,
        stage=row.stage,
        status=own.get("status", ""),
        reason=own.get("reason", "") or "; ".join(dict.fromkeys(failed.values())),
        link=report.relative_to(how.folder).as_posix() if own.get("state") == "done" else None,
        errors={**errors, **dict.fromkeys(failed)},
        sentences=failed,
        figures=own.get("figures", {}),
        seconds=row.seconds,
        cpu_seconds=row.cpu_seconds,
        peak_mb=row.peak_mb,
    )


def _own_place() -> ComparedPair:
    return ComparedPair(OWN, "own", "", "")


def _read_pictures(
    rows: Sequence[MethodRow], own: ComparedPair, how: ComparisonSettings
) -> dict[str, NDArray[np.float32]]:
    """Return a picture of the fixed image, and one of the moving image by each method on the user's pair."""
    read = _PICTURES[how.kind]
    pictures = {"fixed": read(own.fixed)}
    shape = pictures["fixed"].shape
    for row in rows:
        if row.own is not None and row.own["state"] == "done":
            trial = Trial(row.stage, row.method, _own_place(), {})
            picture = read(str(find_result(how, trial) / PRODUCTS[how.kind]))
            pictures[f"{row.stage}: {row.method}"] = _fit(picture, shape)
    if len(pictures) == 1:
        pictures["nothing"] = np.zeros(shape, np.float32)
    return pictures


def _fit(picture: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a picture of another size in this one's: products of scenes may have pixels of their own."""
    if picture.shape == shape:
        return picture
    rows, columns = (
        np.minimum((np.arange(wanted) + 0.5) * own / wanted, own - 1).astype(int)
        for wanted, own in zip(shape, picture.shape, strict=True)
    )
    return np.asarray(picture[np.ix_(rows, columns)])


def _read_volume_picture(path: str) -> NDArray[np.float32]:
    """Return the middle slices of a volume side by side, upright."""
    from regflow.io.volumes import read_volume
    from regflow.reporting.volumes.views import UprightOrientation

    image = read_volume(path)
    upright = UprightOrientation.from_grid(image.grid).turn(image.channel.astype(np.float32))
    middle = [n // 2 for n in upright.shape]
    slices = [upright[middle[0]], upright[::-1, middle[1]], upright[::-1, :, middle[2]]]
    height = max(part.shape[0] for part in slices)
    padded = [
        np.pad(part, ((0, height - part.shape[0]), (0, 0)), constant_values=upright.min()) for part in slices
    ]
    return np.concatenate(padded, axis=1)


def _read_scene_picture(path: str) -> NDArray[np.float32]:
    """Return the first band of a scene, coarse enough for a page."""
    from regflow.core.blocks import decimate_data, load_block
    from regflow.io.scenes import open_scene

    image = open_scene(path, bands=[1], pixels=True)
    longest = max(image.grid.shape)
    return np.asarray(load_block(decimate_data(image, max(1.0, longest / 960))).channel)


_PICTURES = {"volumes": _read_volume_picture, "rasters": _read_scene_picture}
