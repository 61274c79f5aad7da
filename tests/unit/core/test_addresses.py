"""Secrets of addresses: none in what is written, all in what opens files."""

import json
import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from regflow.cohort.rasters.samples import FixedScene, RasterSample, Scene
from regflow.config.loading import load_config
from regflow.core import addresses
from regflow.core.addresses import (
    export_addresses,
    keep_addresses,
    list_kept_addresses,
    redact_address,
    redact_command,
    redact_text,
    resolve_address,
)
from regflow.core.chunks import _with_addresses
from regflow.core.errors import InputError, RegistrationError
from regflow.core.files import write_json
from regflow.core.logs import append_log, log_stage
from regflow.provenance.jobs import COMMAND, find_typed_command
from regflow.provenance.provenance import collect_provenance
from regflow.stages.rasters.detect_inputs import DatedScene
from regflow.stages.rasters.warping import WarpInput

SIGNED = "https://host/july.tif?sv=2021-06-08&se=2030-01-01T00%3A00%3A00Z&sig=SECRET%2Babc%3D"
CLEAN = "https://host/july.tif"


@pytest.fixture(autouse=True)
def forgetful(monkeypatch):
    """Nothing is known of other tests' addresses."""
    monkeypatch.setattr(addresses, "_kept", {})
    monkeypatch.delenv(addresses.ENVIRONMENT, raising=False)
    monkeypatch.delenv(COMMAND, raising=False)


@pytest.mark.parametrize(
    ("address", "clean"),
    [
        (SIGNED, CLEAN),
        ("s3://bucket/a b.tif?X-Amz-Credential=SECRET&X-Amz-Date=1", "s3://bucket/a b.tif"),
        ("https://me:SECRET@host:8080/a.tif", "https://host:8080/a.tif"),
        ("/vsicurl/https://host/a.tif?Signature=SECRET&Expires=1", "/vsicurl/https://host/a.tif"),
        ("/vsicurl?max_retry=3&url=https%3A%2F%2Fhost%2Fa.tif%3Fsig%3DSECRET", "/vsicurl/https://host/a.tif"),
        ("zip+https://host/a.zip?sig=SECRET!in/b.tif", "zip+https://host/a.zip!in/b.tif"),
        ('NETCDF:"https://host/a.nc?sig=SECRET":red', 'NETCDF:"https://host/a.nc":red'),
        ("NETCDF:https://host/a.nc?sig=SECRET:red", "NETCDF:https://host/a.nc:red"),
    ],
)
def test_an_address_loses_its_secrets_and_opens_with_them(address, clean):
    assert redact_address(address) == clean
    assert redact_address(clean) == clean
    assert resolve_address(clean) == address


@pytest.mark.parametrize("path", ["a?b.tif", "zip://a & b?c.zip!d.tif", "s3://bucket/a.tif", "/data/x@y.tif"])
def test_what_has_no_secret_stays_as_it_is(path):
    assert redact_address(path) == resolve_address(path) == path
    assert list_kept_addresses() == {}


def test_queries_that_name_files_stay_apart_and_fresh_signatures_do_not():
    first, second = (redact_address(f"https://host/get?file={name}&sig=SECRET") for name in ("B04", "B08"))
    assert first != second
    assert "B04" not in first
    assert redact_address("https://host/get?sig=FRESH&file=B04") == first
    assert resolve_address(first).endswith("sig=FRESH&file=B04")
    inside = [f"/vsizip//vsicurl/https://host/a.zip?sig=SECRET/{name}.tif" for name in "ab"]
    assert redact_address(inside[0]) != redact_address(inside[1])


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (
            f"{SIGNED}: this file (curl '{SIGNED}'), {SIGNED}.",
            f"{CLEAN}: this file (curl '{CLEAN}'), {CLEAN}.",
        ),
        ("open /vsicurl?url=https%3A%2F%2Fh%2Fa%3Fsig%3DSECRET now", "open /vsicurl?... now"),
        ("a https://me:SECRET@host/b, c", "a https://host/b, c"),
        ("is it? see https://doi.org/10.1/x", "is it? see https://doi.org/10.1/x"),
    ],
)
def test_texts_lose_the_secrets_of_all_addresses(text, clean):
    assert redact_text(text) == clean


def test_every_description_of_a_raster_takes_the_address_without_secrets():
    scene = Scene(SIGNED, mask=SIGNED)
    sample = RasterSample(
        "a", scene, FixedScene("f", scene), companions={"b": SIGNED}, classes={"c": SIGNED}, truth=SIGNED
    )
    dated = DatedScene(SIGNED, "a", mask=SIGNED)
    for described in (sample, sample.list_files(), sample.fixed.list_files(), dated, WarpInput(SIGNED)):
        assert "SECRET" not in repr(described)
        assert CLEAN in repr(described)
    assert resolve_address(sample.moving) == SIGNED


def test_children_open_what_their_parent_knows_from_a_file_of_this_user_alone():
    redact_address(SIGNED)
    export_addresses()
    file = Path(os.environ[addresses.ENVIRONMENT])
    assert file.stat().st_mode & 0o777 == 0o600
    program = f"from regflow.core.addresses import resolve_address; print(resolve_address({CLEAN!r}))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == SIGNED
    file.unlink()
    addresses._kept.clear()
    assert resolve_address(CLEAN) == CLEAN


def test_workers_elsewhere_are_told():
    assert _with_addresses({CLEAN: SIGNED}, resolve_address, CLEAN) == SIGNED


@pytest.mark.parametrize("kind", [InputError, RegistrationError])
def test_no_sentence_holds_a_secret(kind):
    assert str(kind(f"{SIGNED}: gone")) == f"{CLEAN}: gone"


def test_no_json_holds_a_secret(tmp_path):
    write_json(tmp_path / "a.json", {"paths": [SIGNED], "text": {"said": f"no {SIGNED}"}})
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "paths": [CLEAN],
        "text": {"said": f"no {CLEAN}"},
    }


@pytest.mark.parametrize("kept_in", [append_log, log_stage])
def test_no_log_holds_a_secret(kept_in, tmp_path):
    with pytest.raises(OSError, match="SECRET"), kept_in(tmp_path / "a.log"):
        logging.getLogger("regflow.a").warning("%s is slow", SIGNED)
        raise OSError(f"cannot read {SIGNED}")
    said = (tmp_path / "a.log").read_text(encoding="utf-8")
    assert f"{CLEAN} is slow" in said
    assert "SECRET" not in said


def test_no_configuration_or_provenance_holds_a_secret(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["regflow", "run", "--set", f"references.r.image={SIGNED}"])
    (tmp_path / "s.tsv").write_text(
        f"sample\tmoving\tcompanions\na\t{SIGNED}\tb={SIGNED}\n", encoding="utf-8"
    )
    given = {"kind": "rasters", "samples": str(tmp_path / "s.tsv"), "fixed": "r"}
    given["references"] = {"r": {"image": SIGNED}}
    settings = load_config(given)
    assert settings["references"]["r"]["image"] == CLEAN
    (tmp_path / "results").mkdir()
    record = tmp_path / "results" / "provenance.json"
    collect_provenance(record, settings=settings, sources={})
    for file in (record, *(record.with_name(name) for name in ("config.yaml", "samples.tsv"))):
        said = file.read_text(encoding="utf-8")
        assert "SECRET" not in said
        assert CLEAN in said
    assert CLEAN in find_typed_command()
    assert "SECRET" not in find_typed_command()


def test_what_another_process_kept_is_taken_over():
    keep_addresses({CLEAN: SIGNED})
    assert resolve_address(CLEAN) == SIGNED


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("run --storage-s3-secret-key KEY1 --cores 2", "run --storage-s3-secret-key ... --cores 2"),
        ("run --storage-s3-token=KEY1 all", "run --storage-s3-token=... all"),
        ("run --storage-s3-access-key a:KEY1 b:KEY2 -n", "run --storage-s3-access-key ... ... -n"),
        ("run --cores 2 's3://KEY1@bucket/a'", "run --cores 2 s3://bucket/a"),
        ("run 'a b' --keep-going", "run 'a b' --keep-going"),
    ],
)
def test_a_command_is_told_without_the_secrets_of_its_options(typed, told):
    assert redact_command(shlex.split(typed)) == told
