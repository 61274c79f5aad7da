"""``regflow template``: the unbiased mean of volumes, round by round."""

from pathlib import Path
from typing import Any

import click

from regflow.commands.settings import NumberList, add_setting_options, read_command_settings

_OPTIONS = ("start", "mode", "average", "sharpen", "symmetric", "spacing_mm")


@click.command(short_help="Make a template of many volumes.")
@click.argument("images", nargs=-1, required=True)
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The folder to make.")
@click.option("--start", metavar="FILE", help="Begin with this volume, and stay in its pose.")
@click.option(
    "--mode",
    type=click.Choice(["rigid", "affine", "deformable"]),
    help="Leave rounds out that leave more free than this  [default: deformable].",
)
@click.option("--average", metavar="NAME", help="Of the images: mean, median or trimmed  [default: mean].")
@click.option(
    "--sharpen",
    type=click.Choice(["none", "laplacian", "unsharp"]),
    help="Restore the edges of the mean  [default: none].",
)
@click.option(
    "--symmetric",
    is_flag=True,
    default=None,
    help="Count each image a second time, mirrored: the template is its own mirror image.",
)
@click.option(
    "--spacing-mm",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MM",
    help="Of the template and the working images  [default: the images' own].",
)
@click.option(
    "--weights", type=NumberList(float, "1,1,0.5"), metavar="NUMBERS", help="One for each image, with commas."
)
@click.option(
    "--preset", metavar="NAME", default="default", show_default=True, help="As of regflow register."
)
@add_setting_options
@click.option("--seed", type=click.IntRange(0), help="Of every random choice  [default: 0].")
@click.option("--threads", type=click.IntRange(1), help="No result depends on it  [default: all cores].")
def template(
    images: tuple[str, ...],
    output: Path,
    weights: list[float] | None,
    preset: str,
    seed: int | None,
    threads: int | None,
    **given: Any,
) -> None:
    r"""Average IMAGES, their intensities and their shapes, into a template.

    IMAGES are volumes, or one sheet (.tsv, .csv) with the columns sample and moving, and perhaps
    moving_mask, companions (further channels, 'T2w=path'), modality, weight and subject: images of one
    subject first make a template of their own.

    All images are registered to the last template, the mean of the maps is taken out of them, and the mean
    of the images is the next template. The folder gets template.nii.gz, template_mask.nii.gz,
    transforms/NAME.h5 (from the template's to the image's points), inverses/NAME.h5, rounds.tsv,
    samples.tsv and report.html. Stopped at any time, the same command goes on where it was.

    \b
    regflow template scans/*.nii.gz -o template --spacing-mm 2
    regflow template scans/*.nii.gz -o template --mode affine --average median
    regflow template sessions.tsv -o template --start mni.nii.gz --sharpen unsharp

    Every key of config/README.md under preprocess, initialize, refine and template can be given.
    """
    from regflow.core.logs import show_progress_log
    from regflow.core.threads import count_cores
    from regflow.pipeline.template import build_template_folder, count_template_steps
    from regflow.pipeline.template_objects import SECTIONS, make_template_settings
    from regflow.pipeline.template_samples import read_template_samples

    chosen = read_command_settings(given, "volumes", SECTIONS, "template", _OPTIONS)
    settings = make_template_settings(chosen, preset, seed)
    samples = read_template_samples(images, weights)
    with show_progress_log("template", count_template_steps(samples, settings)) as progress:
        record = build_template_folder(
            output, samples, settings, threads=threads or count_cores(), progress=progress
        )
    left_out = {name: own for name, own in record["samples"].items() if not own["used"]}
    for name, own in left_out.items():
        click.echo(f"left out: {name}: {own['verdict']['reason']}")
    used = len(record["samples"]) - len(left_out)
    click.echo(f"the mean of {used} images in {len(record['rounds'])} rounds; see {output / 'report.html'}")
