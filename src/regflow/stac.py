"""STAC item collections: one sample per item, from a local JSON file."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regflow.core.errors import InputError
from regflow.core.io.text_files import parse_json, read_text
from regflow.core.names import nearest
from regflow.raster_samples import (
    Nodata,
    RasterSample,
    Reference,
    Scene,
    as_bands,
    as_quality,
    reference,
    relocated,
)
from regflow.sheet_table import RESERVED

if TYPE_CHECKING:
    from pystac import Asset, Item


def find_scenes(config: Mapping[str, Any]) -> list[RasterSample]:
    """Return one sample per item that the ``stac`` section selects, by date and then by id.

    Raises:
        InputError: the collection cannot be read or selects nothing, the reference is not there, or
            an item lacks an asset; one sentence for each problem, one to a line.
    """
    settings = config["stac"]
    path = Path(settings["path"])
    items = {item.id: item for item in _items(path)}
    fixed = _fixed(config, path, items)
    problems: list[str] = []
    samples: list[RasterSample] = []
    names: dict[str, str] = {}
    for item in items.values():
        if item.id == settings["reference"] or _clouded(item, path, settings):
            continue
        try:
            samples.append(_sample(item, path, settings, fixed))
        except InputError as error:
            problems.append(str(error))
            continue
        other = names.setdefault(samples[-1].sample.casefold(), item.id)
        if other != item.id:
            problems.append(f"{path}: items '{other}' and '{item.id}' both become '{samples[-1].sample}'")
    if problems:
        raise InputError("\n".join(problems))
    if not samples:
        raise InputError(f"{path}: holds no item to register; check 'stac.cloud_cover_max' and the items")
    return samples


def _items(path: Path) -> "list[Item]":
    """Return the items of a collection in the order of their dates."""
    import pystac

    if not path.is_file():
        raise InputError(
            f"{path}: this STAC item collection does not exist; correct 'stac.path' in the configuration"
        )
    remedy = "save the item collection again"
    content = parse_json(path, read_text(path, remedy), remedy)
    try:
        known = isinstance(content, dict) and pystac.ItemCollection.is_item_collection(content)
        items = list(pystac.ItemCollection.from_dict(content)) if known else []
    except (pystac.STACError, LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: an item is not valid STAC ({error}); correct it") from error
    if not known:
        raise InputError(
            f"{path}: not a STAC item collection; save one, as pystac's ItemCollection.save_object does"
        )
    for item in items:
        _refuse_odd_texts(path, item)
    return sorted(items, key=lambda item: (_date(item) or "", item.id))


def _refuse_odd_texts(path: Path, item: "Item") -> None:
    """Refuse an item whose names and addresses are no texts, which pystac lets pass."""
    texts = {
        "id": item.id,
        **{f"assets.{key}.href": asset.href for key, asset in item.assets.items()},
        **{key: item.properties.get(key) or "" for key in ("platform", "constellation")},
    }
    for name, text in texts.items():
        if not isinstance(text, str):
            raise InputError(f"{path}: item '{item.id}' has no text as its {name}; correct it")


def _fixed(config: Mapping[str, Any], path: Path, items: "Mapping[str, Item]") -> Reference:
    settings = config["stac"]
    wanted = settings["reference"]
    if wanted is None:
        if config["fixed"] is None:
            raise InputError(
                f"{path}: name the item that all others go to in 'stac.reference', or a reference in 'fixed'"
            )
        return reference(config, config["fixed"])
    if wanted not in items:
        near = f"; did you mean '{nearest(wanted, items)}'?" if items else ""
        raise InputError(f"{path}: has no item '{wanted}' for the reference{near}")
    return Reference(_name(wanted), _scene(items[wanted], path, settings))


def _sample(item: "Item", path: Path, settings: Mapping[str, Any], fixed: Reference) -> RasterSample:
    name = _name(item.id)
    if name.casefold() in RESERVED:
        raise InputError(f"{path}: item '{item.id}' has a name of the cohort's own files; rename it")
    companions, classes = (
        {_name(key): _href(_asset(item, key, path), path) for key in settings[part]}
        for part in ("companions", "classes")
    )
    scene = _scene(item, path, settings)
    return RasterSample(sample=name, scene=scene, fixed=fixed, companions=companions, classes=classes)


def _scene(item: "Item", path: Path, settings: Mapping[str, Any]) -> Scene:
    asset = _asset(item, settings["asset"], path)
    mask = settings["mask_asset"]
    return Scene(
        _href(asset, path),
        bands=as_bands(settings["bands"]),
        nodata=_nodata(item, settings["asset"], path),
        mask=None if mask is None else _href(_asset(item, mask, path), path),
        quality=as_quality(settings["mask_values"]),
        date=_date(item),
        sensor=item.properties.get("platform") or item.properties.get("constellation"),
    )


def _asset(item: "Item", key: str, path: Path) -> "Asset":
    if key not in item.assets:
        near = f"; did you mean '{nearest(key, item.assets)}'?" if item.assets else ""
        raise InputError(f"{path}: item '{item.id}' has no asset '{key}'{near}")
    return item.assets[key]


def _href(asset: "Asset", path: Path) -> str:
    """Return what GDAL opens; a relative path counts from the item, else from the collection's file."""
    from urllib.parse import unquote, urlparse

    href = asset.get_absolute_href() or asset.href
    parsed = urlparse(href)
    if parsed.scheme == "file":
        return unquote(parsed.path)
    return relocated(href, lambda text: path.parent / text)


def _nodata(item: "Item", key: str, path: Path) -> Nodata:
    """Return the nodata value that the asset states; what the file declares where it states none."""
    stated = item.assets[key].extra_fields
    bands = [band for name in ("bands", "raster:bands") for band in _listed(stated.get(name))]
    values = [band.get("nodata") for band in (*bands, stated) if isinstance(band, dict)]
    value = next((value for value in values if value is not None), None)
    return "file" if value is None else _number(value, f"the nodata value of asset '{key}'", item, path)


def _listed(bands: Any) -> list[Any]:
    return bands if isinstance(bands, list) else []


def _number(value: Any, what: str, item: "Item", path: Path) -> float:
    """Return a number of an item, which may be written as text, as ``nan`` is."""
    try:
        return float("none" if isinstance(value, bool) else value)
    except (ValueError, OverflowError, TypeError) as error:
        raise InputError(
            f"{path}: {what} of item '{item.id}' is not a number ({error}); correct it"
        ) from error


def _date(item: "Item") -> str | None:
    when = item.datetime or item.common_metadata.start_datetime
    return None if when is None else when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _clouded(item: "Item", path: Path, settings: Mapping[str, Any]) -> bool:
    cover, limit = item.properties.get("eo:cloud_cover"), settings["cloud_cover_max"]
    return limit is not None and cover is not None and _number(cover, "the cloud cover", item, path) > limit


def _name(text: str) -> str:
    """Return an id as a name that files may bear."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).lstrip("._+-") or "item"
