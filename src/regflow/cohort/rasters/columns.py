"""The columns of a sample sheet of scenes."""

from regflow.cohort.rasters.samples import NUMBER, RANGES
from regflow.cohort.table import REQUIRED_COLUMNS
from regflow.core.json_schema import Schema, define_table_row
from regflow.core.names import SAFE

DATE = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$"


RASTER = "GeoTIFF, COG, JP2, VRT, a netCDF sub-dataset or anything GDAL reads; a file, http(s):// or s3://"


BANDS = (
    "bands to match on, by number from 1 or by name: 'B04' or '4, 3'; empty: the first, of a moving "
    "scene the one named as the fixed scene's"
)


NODATA = "value that means no measurement; nan; none; file: what the file declares (empty)"


MASK = "quality mask of the same ground: clouds, shadows, snow ..."


MASK_VALUES = "values of the mask that exclude a pixel, '0, 2-4', or bits, 'bit1, bit3-4'; empty: 0 excludes"


_COLUMNS = {
    "sample": "id of the row: letters, digits, '.', '_', '+' and '-'; names the results",
    "moving": f"the moving scene: {RASTER}",
    "fixed": "a reference of the configuration by name, or a raster; empty: the configuration's 'fixed'",
    "bands": BANDS,
    "nodata": NODATA,
    "moving_mask": MASK,
    "mask_values": MASK_VALUES,
    "fixed_bands": "bands of the fixed scene to match on; empty: the reference's",
    "fixed_nodata": "nodata of the fixed scene; empty: the reference's",
    "fixed_mask": "quality mask of the fixed scene; empty: the reference's",
    "fixed_mask_values": "values of that mask that exclude; empty: the reference's",
    "companions": "other rasters that follow the same transform: 'b11=path;b12=path'",
    "classes": "the same for rasters of classes, whose values are never blended: 'scl=path'",
    "date": "of the moving scene: 2024-06-30, with a time or without",
    "sensor": "any words; for the report",
    "group": "any word; the report compares groups",
    "series": "rows with the same name here are also aligned to one another, below series/NAME",
    "landmarks": "pairs of points, for methods that they drive: .points of QGIS' georeferencer, or CSV "
    "(fixed_x,fixed_y,moving_x,moving_y)",
    "truth": "a known correction to measure the true error with: displacement.tif (dx, dy in CRS units)",
}


def define_samples_schema() -> Schema:
    """Return the JSON schema of one row of the sample sheet."""
    pairs = r"^[^=;]+=[^;]+(;[^=;]+=[^;]+)*;?$"
    patterns = {
        "sample": SAFE,
        "nodata": NUMBER,
        "fixed_nodata": NUMBER,
        "mask_values": RANGES,
        "fixed_mask_values": RANGES,
        "companions": pairs,
        "classes": pairs,
        "date": DATE,
        "series": SAFE,
    }
    return define_table_row("one row of a sample sheet of scenes", _COLUMNS, REQUIRED_COLUMNS, patterns)
