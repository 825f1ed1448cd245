"""A Slurm of one node for the length of a test: Debian's slurm-wlm and munge, no root's
files, no system service."""

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("sbatch", "squeue", "slurmctld", "slurmd", "munged")
CONFIGURATION = """ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={place}/munge.sock
CredType=cred/munge
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class NoSlurm(Exception):
    """It cannot start here; the sentence says why."""


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def one_node() -> Iterator[dict[str, str]]:
    """Start munged, slurmctld and slurmd; give the environment that talks to them.

    Raises:
        NoSlurm: a program is missing, or does not come up within 30 s.
    """
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        raise NoSlurm(f"{', '.join(missing)}: not installed (slurm-wlm and munge)")
    with ExitStack() as stack:
        # in a short path: the socket of munge allows 108 letters
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm")))
        for name in ("state", "spool"):
            (place / name).mkdir()
        key = place / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
        (place / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=socket.gethostname().split(".")[0],
                controller=_free_port(),
                node=_free_port(),
                user=getpass.getuser(),
                place=place,
                cpus=os.cpu_count(),
                memory=memory * 9 // 10,
            )
        )
        environment = {
            **os.environ,
            "PATH": path,
            "SLURM_CONF": str(place / "slurm.conf"),
        }
        names = {"key": key, "socket": place / "munge.sock", "pid": place / "munge.pid"}
        names |= {"log": place / "munge.log", "seed": place / "munge.seed"}
        munged = [f"--{name}-file={file}" for name, file in names.items()]
        munged[1] = f"--socket={names['socket']}"
        commands = (
            ["munged", "--foreground", "--force", *munged],
            ["slurmctld", "-D"],
            ["slurmd", "-D"],
        )
        for command in commands:
            stack.enter_context(_running(command, environment, place))
        _wait_until_idle(environment, place)
        yield environment


@contextmanager
def _running(
    command: list[str], environment: dict[str, str], place: Path
) -> Iterator[None]:
    with (place / f"{command[0]}.out").open("w") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    time.sleep(0.5)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def _wait_until_idle(environment: dict[str, str], place: Path) -> None:
    state = ""
    for _ in range(60):
        command = ["sinfo", "-h", "-o", "%T"]
        answer = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        state = (answer.stdout + answer.stderr).strip()
        if state == "idle":
            return
        time.sleep(0.5)
    last = [
        line
        for file in sorted(place.glob("*.out"))
        for line in file.read_text().splitlines()
        if "error" in line.lower()
    ]
    raise NoSlurm(f"Slurm does not start here: {state}; {'; '.join(last[-3:])}")
