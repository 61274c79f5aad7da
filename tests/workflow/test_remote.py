"""Scenes on a server, by http and from S3: the same results as from the disk, and what a user is told."""

import subprocess
import sys
from pathlib import Path

import pytest
from object_server import SIGNATURE, serving
from raster_study import raster_study, write_scenes

from regflow.core.errors import InputError
from regflow.core.files import read_json
from regflow.io.rasters import read_raster_header, read_window

SANDBOX = {"AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE", "AWS_NO_SIGN_REQUEST": "YES"}
"""How GDAL speaks to an S3 of this machine, without a signature."""
QUICK = ["--initialize", "phase-correlation", "--bands", "B04", "--fixed-bands", "B04"]


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> Path:
    """A folder with a bucket of scenes."""
    folder = tmp_path_factory.mktemp("objects")
    (folder / "bucket" / "private").mkdir(parents=True)
    write_scenes(folder / "bucket")
    (folder / "bucket" / "private" / "first.tif").symlink_to(folder / "bucket" / "first.tif")
    whole = (folder / "bucket" / "first.tif").read_bytes()
    (folder / "bucket" / "torn.tif").write_bytes(whole[: len(whole) * 6 // 10])
    return folder


@pytest.fixture
def server(objects, tmp_path, monkeypatch):
    """``host:port`` of a server of the objects, which S3's addresses lead to as well."""
    with serving(objects, tmp_path / "served.log") as at:
        for name, value in {**SANDBOX, "AWS_S3_ENDPOINT": at}.items():
            monkeypatch.setenv(name, value)
        yield at


def regflow(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "regflow", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_a_pair_on_servers_gives_the_bytes_of_the_pair_on_disk(objects, server, tmp_path):
    remote = ["s3://bucket/fixed.tif", f"http://{server}/bucket/first.tif?{SIGNATURE}"]
    local = [str(objects / "bucket" / name) for name in ("fixed.tif", "first.tif")]
    for name, files in (("remote", remote), ("local", local)):
        ended = regflow(tmp_path, "register", *files, "-o", name, *QUICK)
        assert ended.returncode == 0, ended.stderr
    for name in ("warped.tif", "displacement.tif", "tie_points.gpkg"):
        assert (tmp_path / "remote" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
    served = (tmp_path / "served.log").read_text(encoding="utf-8")
    assert "GET /bucket/fixed.tif 206" in served
    assert f"GET /bucket/first.tif?{SIGNATURE} 206" in served
    secret = SIGNATURE.removeprefix("sig=").encode()
    for product in filter(Path.is_file, (tmp_path / "remote").rglob("*")):
        assert secret not in product.read_bytes(), product
    again = ["apply", "remote", remote[1], "-r", remote[0], "-o", "again.tif", "--interpolation", "cubic"]
    ended = regflow(tmp_path, *again)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "again.tif").read_bytes() == (tmp_path / "local" / "warped.tif").read_bytes()


def test_a_header_takes_a_part_of_the_object(objects, server, tmp_path):
    """Ranges are asked for; a scene is never fetched as a whole to look at its header."""
    size = (objects / "bucket" / "fixed.tif").stat().st_size
    assert read_raster_header(f"http://{server}/bucket/fixed.tif").shape == (256, 320)
    lines = [line.split() for line in (tmp_path / "served.log").read_text(encoding="utf-8").splitlines()]
    sent = sum(int(length) for method, name, _, length in lines if method == "GET" and "fixed.tif" in name)
    assert 0 < sent < size / 2


@pytest.mark.slow
def test_the_workflow_names_the_rows_whose_objects_cannot_be_read(objects, server, tmp_path):
    study = raster_study(tmp_path, objects / "bucket", ("first",))
    study.rows = [
        {"sample": "good", "moving": "s3://bucket/first.tif", "bands": "B04"},
        {"sample": "gone", "moving": "s3://bucket/no.tif", "bands": "B04"},
        {"sample": "lost", "moving": f"http://{server}/bucket/no.tif", "bands": "B04"},
        {"sample": "closed", "moving": "s3://bucket/private/first.tif", "bands": "B04"},
        {"sample": "barred", "moving": f"http://{server}/bucket/private/first.tif", "bands": "B04"},
        {"sample": "down", "moving": "http://127.0.0.1:9/first.tif", "bands": "B04"},
    ]
    told = {
        "gone": "s3://bucket/no.tif: there is nothing at this address",
        "lost": f"http://{server}/bucket/no.tif: there is nothing at this address",
        "closed": "s3://bucket/private/first.tif: the server refuses access",
        "barred": f"http://{server}/bucket/private/first.tif: the server refuses access",
        "down": "http://127.0.0.1:9/first.tif: the server does not answer",
    }
    ended = study.write().regflow("check")
    assert ended.returncode == 1, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[-1].startswith("5 problems")
    for line, (sample, words) in zip(lines, told.items(), strict=False):
        assert line.startswith(f"{sample}: {words}")
    manifests = [f"results/ingest/moving/{row['sample']}.json" for row in study.rows]
    ended = study.snakemake(*manifests)
    assert ended.returncode == 0, ended.stderr
    found = {name: read_json(study.results("ingest", "moving", f"{name}.json")) for name in ("good", *told)}
    assert {name: content["state"] for name, content in found.items() if name in told} == dict.fromkeys(
        told, "error"
    )
    assert found["good"]["state"] == "done"
    assert found["good"]["shape"] == [256, 320]


def test_an_object_that_ends_early_or_a_server_that_goes(objects, tmp_path):
    with serving(objects, tmp_path / "served.log") as at:
        base = f"http://{at}/bucket"
        with pytest.raises(InputError, match=r"torn\.tif: .*cut off in its header"):
            read_raster_header(f"{base}/torn.tif")
        rows, cols = (slice(0, size) for size in read_raster_header(f"{base}/second.tif").shape)
    with pytest.raises(InputError, match=r"second\.tif: rows 0 to 256 cannot be read, its server fell"):
        read_window(f"{base}/second.tif", [1, 2], rows, cols)


def test_without_credentials_one_sentence_says_what_to_set(monkeypatch, tmp_path):
    for name in ("AWS_NO_SIGN_REQUEST", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CPL_AWS_AUTODETECT_EC2", "NO")
    with pytest.raises(InputError, match=r"the server refuses access .*AWS_NO_SIGN_REQUEST=YES"):
        read_raster_header("s3://bucket-of-nobody/first.tif")


def test_a_signature_that_is_refused_is_not_told(server):
    with pytest.raises(InputError, match=r"first\.tif: the server refuses access") as refused:
        read_raster_header(f"http://{server}/bucket/first.tif?sig=OLD5ec4e7")
    assert "OLD5ec4e7" not in str(refused.value)
