"""STAC item collections: one sample per item, from a local JSON file."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regflow.cohort.rasters.samples import (
    DeclaredSamples,
    FixedScene,
    Nodata,
    RasterSample,
    Scene,
    parse_bands,
    parse_mask_values,
    parse_reference,
)
from regflow.cohort.table import RESERVED
from regflow.core.errors import InputError
from regflow.core.names import find_nearest_name
from regflow.io.raster_names import relocate_name
from regflow.io.text_files import parse_json, read_text

if TYPE_CHECKING:
    from pystac import Asset, Item


_INVALID = (AttributeError, LookupError, OverflowError, TypeError, ValueError)
"""What pystac stumbles over an item with, beside its own errors."""


def find_scenes(config: Mapping[str, Any]) -> list[RasterSample]:
    """Return one sample per item that the ``stac`` section selects, by date and then by id.

    Ids are unique within a collection only: items of one id in several collections are told apart by
    the collection's id.

    Raises:
        InputError: the collection cannot be read or selects nothing, the reference is not there, or
            an item lacks an asset; one sentence for each problem, one to a line.
    """
    settings = config["stac"]
    path = Path(settings["path"])
    items = _named(path, _items(path))
    wanted, fixed = _fixed(config, path, items)
    problems: list[str] = []
    samples: list[RasterSample] = []
    names: dict[str, str] = {}
    for title, item in items.items():
        try:
            if title == wanted or _clouded(item, path, settings):
                continue
            samples.append(_sample(title, item, path, settings, fixed))
        except InputError as error:
            problems.append(str(error))
            continue
        other = names.setdefault(samples[-1].sample.casefold(), title)
        if other != title:
            problems.append(f"{path}: items '{other}' and '{title}' both become '{samples[-1].sample}'")
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
        dates = [_date(item) or "" for item in items]
    except (*_INVALID, pystac.STACError, pystac.STACTypeError) as error:
        raise InputError(f"{path}: an item is not valid STAC ({error}); correct it") from error
    if not known:
        raise InputError(
            f"{path}: not a STAC item collection; save one, as pystac's ItemCollection.save_object does"
        )
    for item in items:
        _refuse_odd_texts(path, item)
    order = sorted(range(len(items)), key=lambda at: (dates[at], items[at].id))
    return [items[at] for at in order]


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


def _named(path: Path, items: "list[Item]") -> "dict[str, Item]":
    """Return items by their ids, those that several collections share by COLLECTION/ID.

    Raises:
        InputError: one collection has two items of one id that differ.
    """
    unique: dict[tuple[str, str], Item] = {}
    for item in items:
        other = unique.setdefault((item.collection_id or "none", item.id), item)
        if other.to_dict() != item.to_dict():
            raise InputError(f"{path}: two items of one collection have the id '{item.id}'; leave one out")
    counts = Counter(name for _, name in unique)
    return {
        name if counts[name] == 1 else f"{collection}/{name}": item
        for (collection, name), item in unique.items()
    }


def _fixed(
    config: Mapping[str, Any], path: Path, items: "Mapping[str, Item]"
) -> tuple[str | None, FixedScene]:
    """Return the item that all others go to, by its title (None for a named reference), and its scene."""
    settings = config["stac"]
    wanted = settings["reference"]
    if wanted is None:
        if config["fixed"] is None:
            raise InputError(
                f"{path}: name the item that all others go to in 'stac.reference', or a reference in 'fixed'"
            )
        return None, parse_reference(config, config["fixed"])
    alike = [title for title in items if title.endswith(f"/{wanted}")]
    if wanted not in items and len(alike) > 1:
        raise InputError(
            f"{path}: several collections have an item '{wanted}'; name {' or '.join(sorted(alike))}"
        )
    title = alike[0] if alike and wanted not in items else wanted
    if title not in items:
        near = f"; did you mean '{find_nearest_name(wanted, items)}'?" if items else ""
        raise InputError(f"{path}: has no item '{wanted}' for the reference{near}")
    return title, FixedScene(_name(title), _scene(items[title], path, settings))


def _sample(
    title: str, item: "Item", path: Path, settings: Mapping[str, Any], fixed: FixedScene
) -> RasterSample:
    name = _name(title)
    if name.casefold() in RESERVED:
        raise InputError(f"{path}: item '{title}' has a name of the cohort's own files; rename it")
    files: dict[str, dict[str, str]] = {"companions": {}, "classes": {}}
    stated: dict[str, DeclaredSamples] = {}
    for part, found in files.items():
        for key in settings[part]:
            asset = _asset(item, key, path)
            found[_name(key)] = _href(asset, path)
            stated[f"{part}.{_name(key)}"] = _stated(asset, f"{path}: item '{item.id}': asset '{key}'")
    scene = _scene(item, path, settings)
    companions, classes = files["companions"], files["classes"]
    return RasterSample(name, scene, fixed, companions=companions, classes=classes, stated=stated)


def _scene(item: "Item", path: Path, settings: Mapping[str, Any]) -> Scene:
    asset = _asset(item, settings["asset"], path)
    mask = settings["mask_asset"]
    sensor = item.properties.get("platform") or item.properties.get("constellation")
    stated = _stated(asset, f"{path}: item '{item.id}'")
    return Scene(
        _href(asset, path),
        bands=parse_bands(settings["bands"]),
        nodata=stated.nodata,
        mask=None if mask is None else _href(_asset(item, mask, path), path),
        quality=parse_mask_values(settings["mask_values"]),
        date=_date(item),
        sensor=None if sensor is None else str(sensor),
        scaling=stated.scaling,
    )


def _stated(asset: "Asset", place: str) -> DeclaredSamples:
    return DeclaredSamples(_nodata(asset, place), _scaling(asset, place))


def _asset(item: "Item", key: str, path: Path) -> "Asset":
    if key not in item.assets:
        near = f"; did you mean '{find_nearest_name(key, item.assets)}'?" if item.assets else ""
        raise InputError(f"{path}: item '{item.id}' has no asset '{key}'{near}")
    return item.assets[key]


def _href(asset: "Asset", path: Path) -> str:
    """Return what GDAL opens; a relative path counts from the item, else from the collection's file."""
    from urllib.parse import unquote, urlparse

    if not isinstance(asset.href, str) or not asset.href:
        raise InputError(f"{path}: an asset's address is {asset.href!r}, but must be text; correct the item")
    href = asset.get_absolute_href() or asset.href
    parsed = urlparse(href)
    if parsed.scheme == "file":
        return unquote(parsed.path)
    return relocate_name(href, lambda text: path.parent / text)


def _nodata(asset: "Asset", place: str) -> Nodata:
    """Return the nodata value that the asset states; what the file declares where it states none."""
    for stated in (*_bands(asset), asset.extra_fields):
        if stated.get("nodata") is not None:
            return _number(stated["nodata"], f"{place}: nodata")
    return "file"


def _scaling(asset: "Asset", place: str) -> tuple[tuple[float, float], ...]:
    """Return scale and offset of each band that the asset describes; of all bands where it says so itself.

    Sources: the raster extension 1.x (``scale``) and 2.x (``raster:scale``) of STAC.
    """
    found = []
    for band in _bands(asset):
        both = []
        for key, usual in (("scale", 1.0), ("offset", 0.0)):
            stated = band.get(key, band.get(f"raster:{key}", asset.extra_fields.get(f"raster:{key}")))
            both.append(usual if stated is None else _number(stated, f"{place}: {key}"))
        if not both[0] or not math.isfinite(both[0] + both[1]):
            raise InputError(f"{place}: a scale of {both[0]:g} and an offset of {both[1]:g}; correct them")
        found.append((both[0], both[1]))
    return tuple(found)


def _bands(asset: "Asset") -> list[Mapping[str, Any]]:
    """Return what an asset says of its bands, in the words of STAC 1.1 and of the raster extension."""
    lists = [asset.extra_fields.get(name) for name in ("bands", "raster:bands")]
    listed = [bands for bands in lists if isinstance(bands, list) and bands]
    if not listed:
        return [asset.extra_fields]
    return [
        {key: value for part in parts if isinstance(part, Mapping) for key, value in part.items()}
        for parts in zip_longest(*listed)
    ]


def _number(stated: Any, what: str) -> float:
    """Return a number of an item, which may be ``nan`` or ``inf`` in words.

    Raises:
        InputError: it is something else.
    """
    try:
        if not isinstance(stated, bool):
            return float(stated)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"{what} is {str(stated)[:60]!r}, but must be a number; correct the item")


def _date(item: "Item") -> str | None:
    when = item.datetime or item.common_metadata.start_datetime
    return None if when is None else when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _clouded(item: "Item", path: Path, settings: Mapping[str, Any]) -> bool:
    cover, limit = item.properties.get("eo:cloud_cover"), settings["cloud_cover_max"]
    if limit is None or cover is None:
        return False
    return _number(cover, f"{path}: item '{item.id}': eo:cloud_cover") > limit


def _name(text: str) -> str:
    """Return an id as a name that files may bear."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).lstrip("._+-") or "item"
