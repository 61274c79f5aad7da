"""``regflow compare``: every method on one pair, and the ladder that it calls for."""

from pathlib import Path
from typing import Any

import click

from regflow.commands.pair_settings import add_pair_options, parse_volume, read_pair_settings
from regflow.commands.settings import NumberList, add_setting_options

_SETTINGS = ("config", "assignments")
_NOT_GIVEN = ("initialize", "refine", "transform", "seed", "interpolation", "representation", "masks")


class _Sizes(NumberList):
    """Numbers above 0 with commas between them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        """Return the numbers."""
        sizes = super().convert(value, param, ctx)
        if min(sizes) <= 0:
            self.fail(f"'{value}' holds a size that is not above 0", param, ctx)
        return sizes


@click.command(short_help="Find out which method works on a pair.")
@click.argument("fixed")
@click.argument("moving")
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The folder to make.")
@click.option("--methods", metavar="NAMES", help="To compare, with commas  [default: all that fit].")
@click.option(
    "--preset", metavar="NAME", default="default", show_default=True, help="As of regflow register."
)
@add_setting_options
@click.option(
    "--moved",
    type=_Sizes(float, "5,20"),
    metavar="SIZES",
    help="How far the fixed image is shifted and turned: mm and degrees, or pixels  [default: by its size].",
)
@click.option(
    "--warped",
    type=_Sizes(float, "5,20"),
    metavar="SIZES",
    help="Longest displacements of its smooth deformations, mm or pixels  [default: by its size].",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="After which a method is stopped on a pair.",
)
@add_pair_options
@click.option("--seed", type=int, default=0, help="Of the motions [default: 0].")
@click.option("--threads", type=click.IntRange(1), help="Of all methods together [default: all cores].")
def compare(fixed: str, moving: str, output: Path, preset: str, **given: Any) -> None:
    r"""Try every method that fits FIXED and MOVING, each by itself, and recommend a ladder.

    Each method gets the pair itself, and the fixed image turned, shifted and warped in known ways, with the
    contrast and the noise of the moving one: its error is then known, although you have no truth. The folder
    gets index.html (a table, reasons, pictures to flip between), comparison.tsv, recommended.yaml to copy
    into a configuration, and below trials the report of every method. Stopped at any time, the same command
    goes on.

    \b
    regflow compare atlas.nii.gz subject.nii.gz -o compared
    regflow compare a.tif b.tif -o compared --methods phase-correlation,hypotheses,tie-points
    regflow compare a.nii.gz b.nii.gz -o compared --moved 5,30 --warped 4,12 --time-limit 120

    The last lines are the recommended ladder.
    """
    from regflow import api
    from regflow.core.logs import show_progress_log
    from regflow.methods.guideline import describe_facts
    from regflow.pipeline.comparison import count_trials
    from regflow.pipeline.exchange import find_kind_of_pair

    kind = find_kind_of_pair(fixed, moving)
    settings = read_pair_settings(
        {**dict.fromkeys(_NOT_GIVEN), "inverse_image": False, **given}, kind, preset
    )
    of_pair = {name: value for name, value in given.items() if name not in _SETTINGS}
    of_pair["volume"] = parse_volume(given["volume"])
    sizes = [len(given[name] or (0, 0)) for name in ("moved", "warped")]
    with show_progress_log("compare", count_trials(kind, given["methods"], *sizes)) as progress:
        found = api.compare(
            fixed, moving, output=output, preset=preset, config=settings, progress=progress, **of_pair
        )
    click.echo(describe_facts(found.facts))
    click.echo(f"on the guideline: {found.branch.question} {found.branch.why}")
    for stage, reason in found.recommendation.reasons.items():
        click.echo(f"{stage}: {', '.join(found.recommendation.ladders[stage])} ({reason})")
    click.echo(f"see {output / 'index.html'}")
