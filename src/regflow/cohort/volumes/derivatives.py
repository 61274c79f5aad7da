"""The products of a BIDS data set under the names of BIDS-Derivatives."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from regflow import __version__
from regflow.cohort.volumes.bids import parse_name
from regflow.cohort.volumes.samples import VolumeSample
from regflow.core.files import link_or_copy, write_json, write_whole

BIDS_VERSION = "1.9.0"


def name_space(sample: VolumeSample) -> str:
    """Return the label of the fixed image's space: its name without what BIDS labels cannot hold."""
    return re.sub(r"[^A-Za-z0-9]", "", sample.fixed.name)


def name_product(sample: VolumeSample, added: Mapping[str, str], suffix: str, ending: str = ".nii.gz") -> str:
    """Return the path below the root of a product, ``sub-01/anat/sub-01_<entities>_T1w.nii.gz``.

    Args:
        sample: a sample of a BIDS data set.
        added: entities of the product, as ``{"space": "mni", "desc": "warped"}``.
        suffix: ``T1w``, ``dseg``, ``xfm`` ...
        ending: with its dot.
    """
    own = {key: value for key, value in sample.entities.items() if key not in ("suffix", "folder")}
    return f"{sample.entities['folder']}/{_joined(own, added)}_{suffix}{ending}"


def list_products(sample: VolumeSample, names: Iterable[str]) -> dict[str, str]:
    """Return where each of a sample's products goes, by its own name.

    Args:
        sample: a sample of a BIDS data set.
        names: of products, as they lie in the directories of ``apply`` and ``refine``.

    Returns:
        Paths below the root of the derivatives; names that are no product are left out.
    """
    space, suffix = name_space(sample), sample.entities["suffix"]
    placed = {"space": space, "desc": "warped"}
    back = {"space": suffix, "desc": "fixed"}
    forward, inverse = ({"from": a, "to": b, "mode": "image"} for a, b in ((suffix, space), (space, suffix)))
    known = {
        "warped.nii.gz": name_product(sample, placed, suffix),
        "labels.nii.gz": name_product(sample, placed, "dseg"),
        "landmarks.csv": name_product(sample, placed, "landmarks", ".csv"),
        "inverse_fixed.nii.gz": name_product(sample, back, suffix),
        "inverse_labels.nii.gz": name_product(sample, back, "dseg"),
        "inverse_landmarks.csv": name_product(sample, back, "landmarks", ".csv"),
        "transform.h5": name_product(sample, forward, "xfm", ".h5"),
        "inverse.h5": name_product(sample, inverse, "xfm", ".h5"),
    }
    found = {name: known[name] for name in names if name in known}
    for name in set(names) & {f"companions/{companion}.nii.gz" for companion in sample.companions}:
        source = _below_root(sample, sample.companions[Path(name).name.removesuffix(".nii.gz")])
        parsed = parse_name(source.name)
        assert parsed is not None  # that is how find_samples chose it
        found[name] = f"{source.parent.as_posix()}/{_joined(parsed[0], placed)}_{parsed[1]}.nii.gz"
    return found


def publish_sample(
    sample: VolumeSample, applied: str | Path, refined: str | Path, root: str | Path
) -> list[Path]:
    """Place a sample's products under ``root`` by BIDS-Derivatives names, with their side-cars.

    Files are hard-linked, or copied where the file system cannot. A sample that failed has no
    products, so nothing is placed.

    Args:
        sample: a sample of a BIDS data set.
        applied: directory written by apply.
        refined: directory written by refine.
        root: of the derivatives.

    Returns:
        The files that were placed, side-cars included.
    """
    sources = {
        path.relative_to(folder).as_posix(): path
        for folder in (Path(applied), Path(refined))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    placed = []
    for name, target in list_products(sample, sources).items():
        path = Path(root) / target
        _link(sources[name], path)
        sidecar = path.with_name(re.sub(r"\.(nii\.gz|h5|csv)$", ".json", path.name))
        write_json(sidecar, _sidecar(sample, name))
        placed += [path, sidecar]
    return placed


def publish_cohort(
    root: str | Path,
    *,
    samples: Iterable[VolumeSample],
    applied: Iterable[str | Path],
    refined: Iterable[str | Path],
    config: Mapping[str, Any],
) -> None:
    """Place the products of all samples under ``root``; see :func:`publish_sample`.

    Args:
        root: of the derivatives.
        samples: of a BIDS data set.
        applied: directories written by apply, one for each sample.
        refined: directories written by refine, one for each sample.
        config: the complete configuration.
    """
    for sample, products_of, transforms_of in zip(samples, applied, refined, strict=True):
        publish_sample(sample, products_of, transforms_of, root)
    write_description(root, config)


def write_description(root: str | Path, config: Mapping[str, Any]) -> Path:
    """Write the derivatives' ``dataset_description.json`` and return its path."""
    raw = Path(config["bids"]["path"]).resolve()
    path = Path(root) / "dataset_description.json"
    content = {
        "Name": "regflow: images aligned to a fixed image",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "regflow", "Version": __version__}],
        "SourceDatasets": [{"URL": raw.as_uri()}],
        "DatasetLinks": {"raw": raw.as_uri()},
    }
    write_json(path, content)
    return path


def _joined(own: Mapping[str, str], added: Mapping[str, str]) -> str:
    """Return the entities of a product, each once: those of its source, then those it adds.

    What a value replaces stays in the description, as ``desc-preprocWarped``, so that the products of two
    sources never share a name; the description comes last, as BIDS has it.
    """
    replaced = [own[key] for key in own if key in added]
    kept = {key: value for key, value in own.items() if key not in added}
    entities = {**kept, **added}
    words = [*replaced, entities.pop("desc", "")]
    description = words[0] + "".join(word[:1].upper() + word[1:] for word in words[1:])
    if description:
        entities["desc"] = description
    return "_".join(f"{key}-{value}" for key, value in entities.items())


def _sidecar(sample: VolumeSample, name: str) -> dict[str, Any]:
    moving, fixed = _uri(sample, sample.moving), Path(sample.fixed.image).resolve().as_uri()
    if name.endswith(".h5"):
        forward = name == "transform.h5"
        return {
            "Sources": [moving, fixed],
            "FromFile": moving if forward else fixed,
            "ToFile": fixed if forward else moving,
            "Description": "ITK composite transform that resamples FromFile onto ToFile; "
            "it maps points of ToFile to points of FromFile",
        }
    if name.startswith("inverse_"):
        source = sample.fixed.labels if "labels" in name and sample.fixed.labels else sample.fixed.image
        return {"Sources": [Path(source).resolve().as_uri()], "SpatialReference": moving}
    return {"Sources": [_uri(sample, _source_of(sample, name))], "SpatialReference": fixed}


def _source_of(sample: VolumeSample, name: str) -> str:
    if name.startswith("companions/"):
        return sample.companions[Path(name).name.removesuffix(".nii.gz")]
    if name.startswith("labels") and sample.moving_labels:
        return sample.moving_labels
    return sample.moving


def _uri(sample: VolumeSample, path: str) -> str:
    if not Path(path).is_relative_to(_root(sample)):
        return Path(path).resolve().as_uri()  # of derivatives elsewhere
    return f"bids:raw:{_below_root(sample, path).as_posix()}"


def _below_root(sample: VolumeSample, path: str) -> Path:
    return Path(path).relative_to(_root(sample))


def _root(sample: VolumeSample) -> Path:
    return Path(sample.moving).parents[len(Path(sample.entities["folder"]).parts)]


def _link(source: Path, target: Path) -> None:
    with write_whole(target) as part:
        link_or_copy(source, part)
