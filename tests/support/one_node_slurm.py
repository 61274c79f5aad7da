"""A throw-away Slurm of one node for tests: munged, slurmctld and slurmd, no systemd, no accounting.

It claims more processors, memory and GPUs than the machine has, so that rules keep what they ask of
a cluster; only a job's own memory is enforced. The configuration has to lie in /etc/slurm, because
Snakemake's job step drops every SLURM_ variable before it calls srun.
"""

import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

CONF = Path("/etc/slurm")
MARK = "ClusterName=regflowtest"
CPUS, MEMORY_MB, GPUS = 16, 128000, 2
NEEDED = ("munged", "slurmctld", "slurmd", "sinfo", "sbatch")
START_SECONDS = 20

SETTINGS = """\
{mark}
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket
SlurmctldPort=16917
SlurmdPort=16918
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.log
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
# One line per finished job, which is what the test reads.
JobCompType=jobcomp/filetxt
JobCompLoc={home}/jobs.log
ReturnToService=2
SlurmdParameters=config_overrides
MinJobAge=300
KillWait=5
MailProg=/bin/true
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=1,bf_interval=5
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=256
# Without cgroups: a job's address space is held to four times the memory that it asked for.
VSizeFactor=400
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:fake:{gpus} State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=1-00:00:00 State=UP
PartitionName=gpu Nodes={host} MaxTime=1-00:00:00 State=UP
"""


def unavailable() -> str | None:
    """Return why Slurm cannot be started here, or None."""
    if os.geteuid() != 0:
        return "starting Slurm's daemons needs root"
    if missing := [tool for tool in NEEDED if shutil.which(tool) is None]:
        return f"Slurm is not installed here ({', '.join(missing)}): apt-get install slurm-wlm munge"
    settings = CONF / "slurm.conf"
    if settings.exists() and not settings.read_text(encoding="utf-8").startswith(MARK):
        return f"this machine has a Slurm of its own ({settings})"
    return None


def crash_node(home: Path) -> None:
    """Kill the node's daemon and all jobs on it, as a node that loses its power does, and start it again."""
    import psutil

    daemon = psutil.Process(int((home / "slurmd.pid").read_text(encoding="utf-8")))
    steps = [process for process in psutil.process_iter() if process.name() == "slurmstepd"]
    for process in [daemon, *steps, *(child for step in steps for child in step.children(recursive=True))]:
        if process.is_running():
            process.kill()
    subprocess.run(["slurmd", "-N", _host()], check=True)


@contextmanager
def one_node() -> Iterator[Path]:
    """Run a one-node Slurm; give the file that lists finished jobs, in the folder of its daemons."""
    if reason := unavailable():
        pytest.skip(reason)
    with TemporaryDirectory(prefix="regflow-slurm-") as folder:
        yield from _run(Path(folder))


def _run(home: Path) -> Iterator[Path]:
    _configure(home)
    pid_files = [home / f"{name}.pid" for name in ("slurmd", "slurmctld", "munged")]
    munge = [
        f"--{key}={home / value}"
        for key, value in (
            ("key-file", "munge.key"),
            ("socket", "munge.socket"),
            ("pid-file", "munged.pid"),
            ("log-file", "munged.log"),
            ("seed-file", "munged.seed"),
        )
    ]
    try:
        subprocess.run(["munged", "--force", *munge], check=True)
        subprocess.run(["slurmctld", "-c"], check=True)
        subprocess.run(["slurmd", "-N", _host()], check=True)
        _wait_until_idle(home)
        yield home / "jobs.log"
    finally:
        for path in pid_files:
            _stop(path)
        for name in ("slurm.conf", "gres.conf"):
            (CONF / name).unlink(missing_ok=True)


def _host() -> str:
    return socket.gethostname().split(".")[0]


def _configure(home: Path) -> None:
    home.chmod(0o755)  # munged refuses a socket that others cannot reach
    for name in ("state", "spool"):
        (home / name).mkdir()
    key = home / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    CONF.mkdir(exist_ok=True)
    facts = {"mark": MARK, "home": home, "host": _host(), "cpus": CPUS, "memory": MEMORY_MB, "gpus": GPUS}
    (CONF / "slurm.conf").write_text(SETTINGS.format(**facts))
    # Slurm wants character devices and takes the device's number from the digits that end its name.
    devices = [home / f"nvidia{number}" for number in range(GPUS)]
    for device in devices:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    lines = [f"NodeName={_host()} Name=gpu Type=fake File={device}\n" for device in devices]
    (CONF / "gres.conf").write_text("".join(lines))


def _wait_until_idle(home: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    state = ""
    while time.monotonic() < deadline:
        answer = subprocess.run(["sinfo", "-h", "-N", "-o", "%T"], capture_output=True, text=True)
        state = answer.stdout.split("\n")[0]
        if state == "idle":
            return
        time.sleep(0.3)
    logs = "\n".join(path.read_text(encoding="utf-8")[-1500:] for path in home.glob("slurm*.log"))
    pytest.fail(f"Slurm did not start (state {state!r}):\n{logs}")


def _stop(pid_file: Path) -> None:
    """End a daemon by its own pid; one that has lost its controller ignores the polite signal."""
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text(encoding="utf-8"))
    for sign, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 1.0)):
        if _alive(pid):
            os.kill(pid, sign)
        deadline = time.monotonic() + seconds
        while _alive(pid) and time.monotonic() < deadline:
            time.sleep(0.1)


def _alive(pid: int) -> bool:
    """A process that ended but that no parent has waited for does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
