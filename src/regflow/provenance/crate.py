"""A run as a Workflow Run RO-Crate: what was read, by what, where, and what came of it, with checksums.

The crate is written by a rule of the workflow, and not by a plugin for Snakemake's reports
(``snakemake-interface-report-plugins`` 1.3 with Snakemake 9.27), because that interface cannot carry it:

- A reporter of one's own is run by a command of its own, which plans the cohort a second time;
  ``--report-after-run`` runs the HTML reporter alone.
- It fails where a file that is marked for a report is missing, that is for each run in which a job failed.
- It knows the rules, and when the jobs began and ended. A job takes a batch of samples through several
  stages: which stage took how long for which sample, and which files it made, Snakemake does not know.
- It has no checksums, no inputs of a job but by its rule's pattern, no versions and no hardware.

Versions, hardware and the command come from ``provenance.json``, everything else from the records that the
stages leave; both are files of the crate themselves.

Sources: Workflow Run Crate 0.5 (https://w3id.org/ro/wfrun/workflow/0.5), RO-Crate 1.1.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from regflow.core.addresses import SCHEMES
from regflow.core.files import compute_sha256, read_json, write_json, write_whole_directory
from regflow.core.resources import find_lock, find_shipped_folder
from regflow.io.raster_names import find_local_file
from regflow.provenance.inventory import RunFile, RunInventory, take_inventory
from regflow.stages import layout

if TYPE_CHECKING:
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate

VERSION = "1.1"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
TERMS = {
    name: f"https://w3id.org/ro/terms/workflow-run#{name}"
    for name in ("environment", "resourceUsage", "sha256")
}
"""What the context of RO-Crate 1.1 lacks, in the words of the profiles."""
SNAKEMAKE = "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"
FORMAL_PARAMETER = "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"
MAIN = f"{layout.WORKFLOW}/Snakefile"
RUN = "#run"
COPIED = ("rules", "scripts")
"""Folders of the workflow that go with its Snakefile."""
PARTS = {
    "ingest": "what was found about the images' files",
    "preprocess": "working copies of the images",
    "initialize": "linear transforms",
    "refine": "final transforms",
    "apply": "products: images brought onto the fixed images",
    "assess": "figures of quality and verdicts",
    "detect": "maps of changes",
    "report": "pages",
    layout.DERIVATIVES: "the products under their names of BIDS-Derivatives",
    layout.MULTIQC: "figures of the cohort for MultiQC",
    layout.WORKFLOW: "the rules that ran, and the lock of the environment",
}
"""What lies in each folder of a run."""
INPUT, OUTPUT = "#parameter/images", "#parameter/results"
_ADDRESS = re.compile(rf"{SCHEMES}.*", re.IGNORECASE)


def write_crate(
    target: str | Path,
    *,
    settings: Mapping[str, Any],
    samples: Sequence[str],
    fixed: Sequence[str],
    failure: str | None = None,
    compute_checksum: Callable[[Path], str] = compute_sha256,
) -> Path:
    """Write the crate of a run into its folder of results, beside what it describes.

    Args:
        target: the ``ro-crate-metadata.json`` to write; ``provenance.json`` lies beside it.
        settings: the complete configuration.
        samples: ids of the cohort.
        fixed: names of the fixed images.
        failure: why the run did not come to its end.
        compute_checksum: of a file that no record tells; SHA-256.

    Returns:
        ``target``.
    """
    results = Path(target).parent
    copy_workflow(results / layout.WORKFLOW)
    record = read_json(results / layout.PROVENANCE)
    inventory = take_inventory(results, samples, fixed, compute_checksum)
    write_json(target, describe_run(inventory, record, settings, len(samples), failure))
    return Path(target)


def copy_workflow(folder: Path) -> None:
    """Copy the rules of the workflow, and the lock of the environment where there is one."""
    source = find_shipped_folder() / "workflow"
    with write_whole_directory(folder) as part:
        shutil.copyfile(source / "Snakefile", part / "Snakefile")
        for name in COPIED:
            unwanted = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source / name, part / name, ignore=unwanted, copy_function=shutil.copyfile)
        if (lock := find_lock()) is not None:
            shutil.copyfile(lock, part / lock.name)


def describe_run(
    inventory: RunInventory,
    record: Mapping[str, Any],
    settings: Mapping[str, Any],
    count: int,
    failure: str | None = None,
) -> dict[str, Any]:
    """Return the content of a crate.

    Args:
        inventory: what the run has left.
        record: content of ``provenance.json``.
        settings: the complete configuration.
        count: of the samples.
        failure: why the run did not come to its end.
    """
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version=VERSION)
    crate.metadata.extra_terms.update(TERMS)
    inputs = [_add_input(crate, name, checksum) for name, checksum in inventory.inputs.items()]
    results = _add_files(crate, inventory.files.values())
    parameters = _add_parameters(crate, settings)
    workflow = _describe_workflow(crate, record, [*inputs, *parameters], results)
    title, now = f"Registration of {count} images by regflow {record['regflow']}", datetime.now(UTC)
    run = {
        "name": title,
        "instrument": workflow,
        "object": [*inputs, *parameters, *_given(crate, (layout.CONFIGURATION, layout.SHEET))],
        "result": results,
        "startTime": inventory.started or record["recorded"],
        "endTime": now.isoformat(timespec="milliseconds"),
        "description": record["command"],
        "actionStatus": f"http://schema.org/{'Failed' if failure else 'Completed'}ActionStatus",
        **({"error": failure} if failure else {}),
        "environment": _describe_environment(crate, inventory, record),
        "resourceUsage": _describe_seconds(crate, inventory),
    }
    root = {
        "name": title,
        "description": f"Inputs, settings and results of this run: {title}",
        "datePublished": now.isoformat(timespec="seconds"),
        "license": "The license of the images that went in",
        "conformsTo": [_add(crate, uri, "CreativeWork", name=name) for uri, name in PROFILES.items()],
        "hasPart": [*results, *inputs],
        "mainEntity": workflow,
        "mentions": _add(crate, RUN, "CreateAction", **run),
    }
    for name, value in root.items():
        crate.root_dataset[name] = value
    content: dict[str, Any] = crate.metadata.generate()
    return content


def find_address(name: str) -> str:
    """Return the URI of an input: that of a file on this machine, or the address of one elsewhere."""
    local = find_local_file(name)
    if local is not None:
        inside = "" if str(local) == str(Path(name)) else "#" + quote(name, safe="")
        # As it is named: what a link leads to may be another place on every machine.
        return Path(os.path.normpath(Path.cwd() / local)).as_uri() + inside
    found = _ADDRESS.search(name)
    return quote(found[0], safe=":/?#[]@!$&'()*+,;=%") if found else f"urn:gdal:{quote(name)}"


def _add(crate: "ROCrate", address: str, kind: str | list[str], /, **properties: Any) -> "Entity":
    """Add an entity; files among them are no parts of the root, but of a folder of it."""
    from rocrate.model import ContextEntity

    entity: Entity = crate.add(ContextEntity(crate, address, properties={"@type": kind, **properties}))
    return entity


def _add_input(crate: "ROCrate", name: str, checksum: str | None) -> "Entity":
    address, kind = find_address(name), "File"
    if Path(name).is_dir():
        address, kind = f"{address}/", "Dataset"
    known = {"sha256": checksum} if checksum else {}
    return _add(crate, address, kind, name=name, **known, exampleOfWork=_reference(INPUT))


def _add_files(crate: "ROCrate", files: Iterable[RunFile]) -> list["Entity"]:
    """Add the files of a run below one entity for each of its folders; return what lies at the top."""
    inside: dict[str, list[Entity]] = {}
    top = []
    for file in files:
        folder, _, rest = file.path.partition("/")
        name = quote(file.path)
        entity = _add(crate, name, "File", contentSize=str(file.size), sha256=file.sha256)
        if rest:
            inside.setdefault(folder, []).append(entity)
        else:
            top.append(entity)
    folders = [
        _add(
            *(crate, f"{folder}/", "Dataset"),
            name=PARTS.get(folder, folder),
            hasPart=entities,
            exampleOfWork=_reference(OUTPUT),
        )
        for folder, entities in inside.items()
    ]
    return [*folders, *top]


def _add_parameters(crate: "ROCrate", settings: Mapping[str, Any]) -> list["Entity"]:
    """Add each key of the configuration with its value, and what it is a value of."""
    found = []
    for name, value in _flatten(settings):
        formal = {"name": name, "additionalType": _type_of(value), "conformsTo": _reference(FORMAL_PARAMETER)}
        slot, given = f"#parameter/{quote(name)}", f"#value/{quote(name)}"
        _add(crate, slot, "FormalParameter", **formal, workExample=_reference(given))
        told = value if isinstance(value, (str, int, float)) else json.dumps(value)
        found.append(
            _add(crate, given, "PropertyValue", name=name, value=told, exampleOfWork=_reference(slot))
        )
    return found


def _describe_workflow(
    crate: "ROCrate", record: Mapping[str, Any], given: Sequence["Entity"], results: Sequence["Entity"]
) -> "Entity":
    """Make the Snakefile what was run; return it."""
    packages = record["packages"]
    language = _add(
        *(crate, SNAKEMAKE, "ComputerLanguage"),
        name="Snakemake",
        version=packages.get("snakemake", "unknown"),
        url=_reference("https://snakemake.readthedocs.io"),
    )
    needed = {"Python": record["python"], **packages}
    software = [
        _add(crate, f"#software/{quote(name)}", "SoftwareApplication", name=name, softwareVersion=version)
        for name, version in needed.items()
    ]
    images = [entity for entity in given if entity.type in ("File", "Dataset")]
    folders = [entity for entity in results if entity.type == "Dataset"]
    for slot, name, examples in ((INPUT, "images", images), (OUTPUT, "results", folders)):
        formal = {"name": name, "additionalType": "File" if slot == INPUT else "Dataset"}
        shown = {"workExample": examples} if examples else {}
        _add(crate, slot, "FormalParameter", **formal, **shown, conformsTo=_reference(FORMAL_PARAMETER))
    slots = [entity["exampleOfWork"] for entity in given if entity.type == "PropertyValue"]
    lock = _given(crate, (f"{layout.WORKFLOW}/requirements.lock",))
    kinds = ["File", "SoftwareSourceCode", "ComputationalWorkflow"]
    known = {name: value for name, value in crate.get(MAIN).properties().items() if name[0] != "@"}
    return _add(
        *(crate, MAIN, kinds),
        **known,
        name="regflow",
        version=record["regflow"],
        programmingLanguage=language,
        softwareRequirements=[*lock, *software],
        input=[_reference(INPUT), *slots],
        output=_reference(OUTPUT),
    )


def _describe_environment(
    crate: "ROCrate", inventory: RunInventory, record: Mapping[str, Any]
) -> list["Entity"]:
    """Add the machine, the environment and the sources that the run was computed by."""
    told = {
        "platform": record["platform"],
        **{f"processor.{name}": value for name, value in record["processor"].items()},
        **{f"machine.{name}": value for name, value in record["machine"].items()},
        **{f"stages on {name}": count for name, count in sorted(inventory.processors.items())},
        **{f"lock.{name}": value for name, value in _flatten(record["lock"])},
        **{f"source.{name}": value for name, value in record["sources"].items()},
    }
    return [
        _add(crate, f"#environment/{quote(name)}", "PropertyValue", name=name, value=_plain_value(value))
        for name, value in told.items()
    ]


def _describe_seconds(crate: "ROCrate", inventory: RunInventory) -> list["Entity"]:
    return [
        _add(
            *(crate, f"#seconds/{stage}", "PropertyValue"),
            name=f"seconds of {stage}, all samples together",
            value=round(seconds, 3),
            unitText="s",
        )
        for stage, seconds in inventory.seconds.items()
    ]


def _given(crate: "ROCrate", names: Iterable[str]) -> list["Entity"]:
    """Return those of some files that are there."""
    return [entity for entity in map(crate.get, names) if entity is not None]


def _flatten(content: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys of a configuration, ``refine.methods``, with their values."""
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _type_of(value: Any) -> str:
    kinds = {bool: "Boolean", int: "Integer", float: "Float"}
    return kinds.get(type(value), "Text")


def _plain_value(value: Any) -> Any:
    return value if isinstance(value, (str, int, float)) else json.dumps(value)


def _reference(name: str) -> dict[str, str]:
    return {"@id": name}
