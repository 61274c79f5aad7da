"""Points as GeoPackage by SQLite itself: a process that has a few to write need not load pandas for it.

Source: OGC 12-128r18, GeoPackage Encoding Standard 1.3.1.
"""

import sqlite3
import struct
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

_EPOCH = "2000-01-01T00:00:00.000Z"
"""Written as the time of last change, so that equal contents are equal bytes."""
_APPLICATION, _VERSION = 0x47504B47, 10300
"""``GPKG``, and version 1.3."""
_HEADER = struct.Struct("<2sBBi")
_POINT = struct.Struct("<BIdd")
_LITTLE_ENDIAN, _WKB_POINT = 1, 1
_UNKNOWN_PLANE = 99_999
"""GDAL's id of a plane without georeference: the standard's own, -1, it reads as a CRS named undefined."""
_OWN_CRS = 100_000
"""Id of a CRS that no authority knows."""
_TYPES = {"b": "BOOLEAN", "i": "INTEGER", "u": "INTEGER", "f": "REAL"}
_DTYPES = {"BOOLEAN": bool, "INTEGER": np.int64, "REAL": np.float64, "TEXT": object}
_POINTS = np.dtype([("order", "u1"), ("kind", "<u4"), ("x", "<f8"), ("y", "<f8")])

_SCHEMA = """
CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, srs_id INTEGER PRIMARY KEY,
  organization TEXT NOT NULL, organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL,
  description TEXT);
CREATE TABLE gpkg_contents (table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL,
  identifier TEXT UNIQUE, description TEXT DEFAULT '', last_change DATETIME NOT NULL, min_x DOUBLE,
  min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER,
  CONSTRAINT fk_gc_r_srs_id FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id));
CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL, column_name TEXT NOT NULL,
  geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL, z TINYINT NOT NULL, m TINYINT NOT NULL,
  CONSTRAINT pk_geom_cols PRIMARY KEY (table_name, column_name),
  CONSTRAINT uk_gc_table_name UNIQUE (table_name),
  CONSTRAINT fk_gc_tn FOREIGN KEY (table_name) REFERENCES gpkg_contents(table_name),
  CONSTRAINT fk_gc_srs FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id));
CREATE TABLE gpkg_extensions (table_name TEXT, column_name TEXT, extension_name TEXT NOT NULL,
  definition TEXT NOT NULL, scope TEXT NOT NULL,
  CONSTRAINT ge_tce UNIQUE (table_name, column_name, extension_name));
CREATE TABLE gpkg_metadata (id INTEGER CONSTRAINT m_pk PRIMARY KEY ASC NOT NULL,
  md_scope TEXT NOT NULL DEFAULT 'dataset', md_standard_uri TEXT NOT NULL,
  mime_type TEXT NOT NULL DEFAULT 'text/xml', metadata TEXT NOT NULL DEFAULT '');
CREATE TABLE gpkg_metadata_reference (reference_scope TEXT NOT NULL, table_name TEXT, column_name TEXT,
  row_id_value INTEGER, timestamp DATETIME NOT NULL, md_file_id INTEGER NOT NULL, md_parent_id INTEGER,
  CONSTRAINT crmr_mfi_fk FOREIGN KEY (md_file_id) REFERENCES gpkg_metadata(id),
  CONSTRAINT crmr_mpi_fk FOREIGN KEY (md_parent_id) REFERENCES gpkg_metadata(id));
"""

_SYSTEMS = (
    ("Undefined Cartesian SRS", -1, "NONE", -1, "undefined", None),
    ("Undefined geographic SRS", 0, "NONE", 0, "undefined", None),
)
_UNKNOWN = (
    'LOCAL_CS["Undefined SRS",LOCAL_DATUM["unknown",32767],UNIT["unknown",0],'
    'AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
)


def write_point_layer(
    path: Path,
    layer: str,
    columns: Mapping[str, NDArray[Any]],
    xy: NDArray[np.float64],
    crs: str | None,
    tags: Mapping[str, str],
) -> None:
    """Write a GeoPackage with one layer of points into a new file.

    Args:
        path: the file; it does not exist.
        layer: name of the table.
        columns: arrays ``(N,)`` of numbers, booleans or texts by name; NaN becomes null.
        xy: ``(N, 2)`` coordinates.
        crs: WKT or another name of the CRS; None for a plane without georeference.
        tags: metadata of the layer, as GDAL keeps it.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute(f"PRAGMA application_id = {_APPLICATION}")
        file.execute(f"PRAGMA user_version = {_VERSION}")
        file.execute("BEGIN")
        for statement in _SCHEMA.split(";\n"):
            file.execute(statement)
        system = _write_system(file, crs)
        _describe(file, layer, xy, system)
        if tags:
            _write_tags(file, layer, tags)
        _write_rows(file, layer, columns, xy, system)
        file.execute("COMMIT")


def _write_system(file: sqlite3.Connection, crs: str | None) -> int:
    """Write the coordinate reference systems; return the id of the layer's."""
    from rasterio.crs import CRS

    world = CRS.from_epsg(4326)
    systems = [*_SYSTEMS, ("WGS 84", 4326, "EPSG", 4326, world.to_wkt(), None)]
    if crs is None:
        own = ("Undefined SRS", _UNKNOWN_PLANE, "GDAL", _UNKNOWN_PLANE, _UNKNOWN, None)
    else:
        system = CRS.from_user_input(crs)
        authority, code = system.to_authority() or ("NONE", str(_OWN_CRS))
        number = int(code) if code.isdigit() else _OWN_CRS
        name = system.to_dict(projjson=True).get("name") or "unnamed"
        own = (name, number, authority, number, system.to_wkt(), None)
    file.executemany("INSERT OR IGNORE INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, ?)", [*systems, own])
    return own[1]


def _describe(file: sqlite3.Connection, layer: str, xy: NDArray[np.float64], system: int) -> None:
    box = [*xy.min(axis=0).tolist(), *xy.max(axis=0).tolist()] if len(xy) else [None] * 4
    content = (layer, "features", layer, "", _EPOCH, *box, system)
    file.execute(f"INSERT INTO gpkg_contents VALUES ({', '.join('?' * len(content))})", content)
    geometry = (layer, "geom", "POINT", system, 0, 0)
    file.execute("INSERT INTO gpkg_geometry_columns VALUES (?, ?, ?, ?, ?, ?)", geometry)


def _write_tags(file: sqlite3.Connection, layer: str, tags: Mapping[str, str]) -> None:
    items = "".join(f"    <MDI key={quoteattr(key)}>{escape(value)}</MDI>\n" for key, value in tags.items())
    text = f"<GDALMultiDomainMetadata>\n  <Metadata>\n{items}  </Metadata>\n</GDALMultiDomainMetadata>\n"
    file.execute("INSERT INTO gpkg_metadata VALUES (1, 'dataset', 'http://gdal.org', 'text/xml', ?)", [text])
    reference = ("table", layer, None, None, _EPOCH, 1, None)
    file.execute("INSERT INTO gpkg_metadata_reference VALUES (?, ?, ?, ?, ?, ?, ?)", reference)
    source = "http://www.geopackage.org/spec131/#extension_metadata"
    for table in ("gpkg_metadata", "gpkg_metadata_reference"):
        extension = (table, None, "gpkg_metadata", source, "read-write")
        file.execute("INSERT INTO gpkg_extensions VALUES (?, ?, ?, ?, ?)", extension)


def _write_rows(
    file: sqlite3.Connection,
    layer: str,
    columns: Mapping[str, NDArray[Any]],
    xy: NDArray[np.float64],
    system: int,
) -> None:
    fields = [f"{_quoted(name)} {_TYPES.get(values.dtype.kind, 'TEXT')}" for name, values in columns.items()]
    described = ", ".join(["fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL", "geom POINT", *fields])
    file.execute(f"CREATE TABLE {_quoted(layer)} ({described})")
    marks = ", ".join("?" * (2 + len(columns)))
    # SQLite takes NaN for null.
    data = [values.tolist() for values in columns.values()]
    rows = zip(range(1, len(xy) + 1), _blobs(xy, system), *data, strict=True)
    file.executemany(f"INSERT INTO {_quoted(layer)} VALUES ({marks})", rows)


def _blobs(xy: NDArray[np.float64], system: int) -> Iterator[bytes]:
    """Yield points as the standard's binary, little-endian and without an envelope."""
    header = _HEADER.pack(b"GP", 0, _LITTLE_ENDIAN, system)
    for x, y in xy.tolist():
        yield header + _POINT.pack(_LITTLE_ENDIAN, _WKB_POINT, x, y)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def read_point_layer(path: Path, layer: str) -> tuple[dict[str, NDArray[Any]], NDArray[np.float64]]:
    """Read what :func:`write_point_layer` wrote: columns by name, null as NaN, and ``(N, 2)`` coordinates.

    Raises:
        sqlite3.Error: the file is no database, has no such layer, or one of something else than points.
    """
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
        described = file.execute("SELECT name, type FROM pragma_table_info(?)", [layer]).fetchall()
        rows = file.execute(f"SELECT * FROM {_quoted(layer)} ORDER BY fid").fetchall()
    values = list(zip(*rows, strict=True)) or [()] * len(described)
    size = _HEADER.size + _POINT.size
    if not all(isinstance(blob, bytes) and len(blob) == size and blob[:2] == b"GP" for blob in values[1]):
        raise sqlite3.DatabaseError(f"its layer {layer} holds something else than points")
    places = b"".join(blob[_HEADER.size :] for blob in values[1])
    xy = np.frombuffer(places, _POINTS)[["x", "y"]]
    columns = {
        name: np.array(part, _DTYPES[kind])
        for (name, kind), part in zip(described[2:], values[2:], strict=True)
    }
    return columns, np.stack([xy["x"], xy["y"]], axis=1)
