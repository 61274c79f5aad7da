from itertools import permutations, product

import numpy as np
import pytest

from regflow.core.grid import Grid
from regflow.core.resample import resample_array
from regflow.reporting.shared import drawing
from regflow.reporting.volumes.views import PLANES, UprightOrientation, choose_slices


def oriented(shape, axes, signs, spacing=(1.0, 2.0, 3.0)) -> Grid:
    """A grid whose x, y and z indices run along the given world axes."""
    direction = np.zeros((3, 3))
    for column, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        direction[axis, column] = sign
    return Grid.from_geometry(shape, spacing, (5.0, -7.0, 11.0), direction)


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_every_orientation_stands_up(axes, signs):
    grid = oriented((4, 5, 6), axes, signs)
    standing = UprightOrientation.from_grid(grid)
    index = np.moveaxis(np.indices(grid.shape)[::-1], 0, -1)
    world = grid.to_world(index)
    for component in range(3):
        turned = standing.turn(world[..., component])
        # Array axes run to superior, posterior, left: LPS components 2, 1, 0.
        assert (np.diff(turned, axis=2 - component) > 0).all()
        assert turned.shape == standing.grid.shape
        upright = standing.grid.to_world(np.moveaxis(np.indices(turned.shape)[::-1], 0, -1))
        assert turned == pytest.approx(upright[..., component])


def test_pictures_are_radiological_and_turn_neurological_on_request(mni_4mm):
    standing = UprightOrientation.from_grid(mni_4mm.grid)
    mask = standing.turn(mni_4mm.mask)
    index = np.moveaxis(np.indices(mni_4mm.grid.shape)[::-1], 0, -1)
    left, posterior, superior = (
        standing.turn(mni_4mm.grid.to_world(index)[..., component]) for component in range(3)
    )
    for neurological, sign in ((False, 1), (True, -1)):
        cuts = choose_slices(standing, mask, 5, neurological=neurological)
        axial, coronal, sagittal = (cuts[plane][2] for plane in PLANES)
        assert (sign * np.diff(axial.cut(left), axis=1) > 0).all()
        assert (np.diff(axial.cut(posterior), axis=0) > 0).all()
        assert (sign * np.diff(coronal.cut(left), axis=1) > 0).all()
        assert (np.diff(coronal.cut(superior), axis=0) < 0).all()
        assert (np.diff(sagittal.cut(posterior), axis=1) > 0).all()
        assert (np.diff(sagittal.cut(superior), axis=0) < 0).all()
        assert axial.sides[:2] == (("L", "R") if neurological else ("R", "L"))
        assert sagittal.sides == ("A", "P", "S", "I")


def test_slices_lie_within_the_mask_where_they_say(mni_4mm):
    standing = UprightOrientation.from_grid(mni_4mm.grid)
    mask = standing.turn(mni_4mm.mask)
    cuts = choose_slices(standing, mask, 7)
    for plane, component in zip(PLANES, (2, 1, 0), strict=True):
        for cut in cuts[plane]:
            assert cut.cut(mask).any()
            assert cut.cut(mask).shape == cut.measure_size(mask.shape)
            index = [0.0, 0.0, 0.0]
            index[component] = cut.number
            position = standing.grid.to_world(np.array(index))[component]
            letters = {2: "IS", 1: "AP", 0: "RL"}[component]
            assert cut.place == f"{abs(round(position))} mm {letters[round(position) >= 0]}"


# Drawing


def test_contour_of_a_disk_has_its_radius_in_mm():
    y, x = np.mgrid[:60, :40]
    distance = np.hypot((x - 19.5) * 1.5, (y - 29.5) * 1.0)
    (line,) = drawing.trace_contours((20 - distance).astype(np.float32), 0.0, (1.0, 1.5))
    center = np.array([20 * 1.5, 30 * 1.0])
    assert np.hypot(*(line - center).T) == pytest.approx(20, abs=0.1)
    thinned = drawing.simplify_line(line, 0.1)
    assert len(thinned) < len(line) / 2
    assert np.hypot(*(thinned - center).T) == pytest.approx(20, abs=0.1)


def test_svg_path_goes_through_its_points():
    square = np.array([[1.0, 2.0], [11.0, 2.0], [11.0, 12.5], [1.0, 12.5], [1.0, 2.0]])
    assert drawing.format_svg_path([square]) == "M10 20l100 0 0 105-100 0z"


def test_grid_of_a_shift_is_a_shifted_regular_grid():
    index = np.mgrid[:50, :50].astype(np.float32)
    lines = drawing.trace_grid_lines([index[0], index[1] + 2.0], 10.0, (1.0, 1.0))
    upright = sorted(line[0, 0] for line in lines if np.ptp(line[:, 0]) < 1e-3)
    # A sample at index i shows position i + 2, and its center lies at i + 0.5 mm in the picture.
    assert upright == pytest.approx([8.5, 18.5, 28.5, 38.5, 48.5])


def test_labels_have_an_outline_each():
    labels = np.zeros((40, 40), dtype=np.int16)
    labels[5:15, 5:15] = 3
    labels[20:35, 10:30] = 9
    lines = drawing.trace_label_contours(labels, (1.0, 1.0))
    boxes = sorted(tuple(np.round([*line.min(axis=0), *line.max(axis=0)]).astype(int)) for line in lines)
    assert boxes == [(5, 5, 15, 15), (10, 20, 30, 35)]


def test_otsu_parts_three_tissues(mni_2mm):
    rng = np.random.default_rng(0)
    tissues = rng.normal([[20], [50], [80]], 2, (3, 3000))
    lower, upper = drawing.find_otsu_levels(tissues.ravel())
    classes = (tissues > lower).astype(int) + (tissues > upper)
    assert (classes == [[0], [1], [2]]).mean() > 0.995
    brain = mni_2mm.channel[mni_2mm.mask]
    lower, upper = drawing.find_otsu_levels(brain)
    assert brain.min() < lower < upper < brain.max()


def test_colors_diverge_from_white_to_blue_and_red():
    blue, white, red = drawing.draw_diverging(np.array([[-2.0, 0.0, 2.0]]), 1.0)[0]
    assert blue[2] > blue[0]
    assert white.min() > 240
    assert red[0] > red[2]


def test_large_pictures_are_shrunk_to_a_web_picture(mni_2mm):
    import base64
    import io

    from PIL import Image

    fine = resample_array(mni_2mm.channel, mni_2mm.grid, mni_2mm.grid.with_spacing((0.4, 0.4, 4.0)))
    uri = drawing.encode_data_uri(drawing.draw_gray(fine[20], drawing.choose_window(fine[20])))
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert picture.format == "WEBP"
    assert max(picture.size) == drawing.LONGEST_SIDE
