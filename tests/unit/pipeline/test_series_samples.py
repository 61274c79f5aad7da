"""Which images a series has, and their order."""

import numpy as np
import pytest

from regflow.core.errors import InputError
from regflow.pipeline.series_samples import SeriesSample, list_ordered_samples, read_series_samples


def list_names(samples):
    return [sample.name for sample in samples]


def test_names_order_images_without_dates_by_their_numbers():
    samples = [SeriesSample(name, f"{name}.tif") for name in ("t10", "t9", "t1")]
    assert list_names(list_ordered_samples(samples)) == ["t1", "t9", "t10"]


def test_images_of_one_date_are_in_the_order_of_their_names():
    dates = {"b": "2020-01-02", "a": "2020-01-02", "c": "2020-01-01"}
    samples = [SeriesSample(name, f"{name}.tif", date) for name, date in dates.items()]
    assert list_names(list_ordered_samples(samples)) == ["c", "a", "b"]


def test_some_images_without_dates_are_refused():
    samples = [SeriesSample("a", "a.tif", "2020-01-02"), SeriesSample("b", "b.tif")]
    with pytest.raises(InputError, match="b: has no date, and others have one"):
        list_ordered_samples(samples)


def test_a_sheet_names_images_dates_and_masks(tmp_path):
    sheet = tmp_path / "series.tsv"
    rows = [
        "sample\tmoving\tdate\tmoving_mask",
        "late\tb.tif\t2020-02-01\tm.tif",
        "early\ta.tif\t2020-01-01\t",
    ]
    sheet.write_text("\n".join(rows) + "\n", encoding="utf-8")
    for name in ("a.tif", "b.tif", "m.tif"):
        (tmp_path / name).touch()
    found = read_series_samples([str(sheet)])
    assert list_names(found) == ["early", "late"]
    assert found[1].mask == str(tmp_path / "m.tif")


def test_pages_of_one_tiff_are_images(tmp_path):
    from PIL import Image

    pages = [Image.fromarray(np.full((8, 9), 10 * n, np.uint8)) for n in range(3)]
    path = tmp_path / "lapse.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    found = read_series_samples([str(path)])
    assert list_names(found) == ["lapse-0001", "lapse-0002", "lapse-0003"]
