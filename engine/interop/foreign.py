"""Import of other programs' files: the only place that touches a foreign pickle.

A torch checkpoint is a pickle. It is read with ``weights_only=True``, which admits tensors
and plain containers and refuses everything else; there is no fallback, because loading a
pickle runs whatever its author wrote into it. What comes out is safetensors and JSON.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from ..errors import InputError
from ..inputs import LARGEST, check_file_size
from ..rundir import write_atomically, write_text

_WAVEFUNCTION = ("mo_coeff", "mo_energy", "mo_occ", "e_tot")


def import_file(source: Path, target: Path, largest: int = LARGEST) -> Path:
    """Turn a torch checkpoint or a PySCF checkpoint into safetensors and JSON.

    Args:
        source: ``.pt``, ``.pth``, ``.ckpt`` (torch) or ``.chk``, ``.h5`` (PySCF).
        target: ``target.safetensors`` and ``target.json`` are written.
        largest: bytes allowed.

    Returns:
        The path of the tensors.

    Raises:
        InputError: not such a file, too large, or it holds anything but numbers.
    """
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    check_file_size(source, largest)
    if h5py.is_hdf5(source):
        tensors, about = _read_pyscf(source, largest)
    else:
        tensors, about = _read_torch(source, largest)
    if not tensors:
        raise InputError(f"{source}: holds no tensors")
    weights = target.with_suffix(".safetensors")
    card = weights.with_suffix(".json")
    for file in (weights, card):
        if file.exists():
            raise InputError(f"{file}: exists; nothing is overwritten")
    write_atomically(weights, lambda part: safetensors.torch.save_file(tensors, part))
    write_text(card, json.dumps({"imported": source.name, **about}, indent=1, default=str))
    return weights


def _read_torch(source: Path, largest: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not zipfile.is_zipfile(source):
        raise InputError(
            f"{source}: refused: not a torch checkpoint in the zip format (torch 1.6 and "
            "later); save it again with the program that wrote it"
        )
    try:
        # indices of a sparse tensor that lie outside of it would be written to
        with torch.sparse.check_sparse_tensor_invariants():
            content = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{source}: refused: not a torch checkpoint of plain tensors ({reason}); "
            "save the state_dict alone with the program that wrote it"
        ) from error
    packed = source.stat().st_size
    taken = _Taken(source, min(largest, _EXPANSION * packed + (1 << 20)))
    rest = taken.flatten(content, "", 0)
    return taken.tensors, {"kind": "torch", "values": rest}


_EXPANSION = 16
"""Times the size of its file that a checkpoint may take: it is not compressed."""
_MOST_ITEMS = 100_000


class _Taken:
    """Takes tensors out of nested containers, within bounds.

    A tensor may be a small storage with a large shape, sparse, or named a thousand times;
    a list may hold itself ten times over. So bytes and items are counted before they are
    made.
    """

    def __init__(self, source: Path, allowed: int) -> None:
        self.source, self.allowed = source, allowed
        self.tensors: dict[str, Tensor] = {}
        self._items = 0

    def flatten(self, node: Any, name: str, depth: int) -> Any:
        """Move the tensors of ``node`` into ``tensors``; return what is left.

        Raises:
            InputError: too deep, too many items, or more bytes than allowed.
        """
        self._items += 1
        if depth > 64 or self._items > _MOST_ITEMS:
            raise InputError(f"{self.source}: {name[:80]}: nested too deeply")
        if isinstance(node, Tensor):
            return self._tensor(node, name or "tensor")
        if isinstance(node, Mapping):
            return {
                str(key): self.flatten(value, f"{name}.{key}".lstrip("."), depth + 1)
                for key, value in node.items()
            }
        if isinstance(node, list | tuple):
            return [
                self.flatten(value, f"{name}.{number}".lstrip("."), depth + 1)
                for number, value in enumerate(node)
            ]
        return node if isinstance(node, bool | int | float | str | None) else str(node)

    def _tensor(self, node: Tensor, name: str) -> str:
        size = node.numel() * node.element_size()
        self.allowed -= size
        if self.allowed < 0:
            raise InputError(
                f"{self.source}: {name[:80]}: expands to {size} bytes, many times what "
                "the file holds; refused"
            )
        if node.is_meta:
            raise InputError(f"{self.source}: {name[:80]}: has a shape but no numbers")
        self.tensors[name] = node.detach().to_dense().clone().contiguous()
        return f"tensor {name}"


def _read_pyscf(source: Path, largest: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read orbitals, occupations and energies, and the molecule as text."""
    try:
        with h5py.File(source, "r") as file:
            if "scf" not in file or "mol" not in file:
                raise InputError(f"{source}: HDF5, but not a checkpoint of PySCF")
            group: Any = file["scf"]
            molecule: Any = file["mol"]
            tensors: dict[str, Tensor] = {}
            for name in _WAVEFUNCTION:
                item = group.get(name)
                if isinstance(item, h5py.Dataset):
                    if item.nbytes > largest:
                        raise InputError(f"{source}: scf/{name} has {item.nbytes} bytes")
                    values = np.atleast_1d(np.asarray(item[()]))
                    if values.dtype.kind not in "fciu":
                        raise InputError(f"{source}: scf/{name} holds no numbers")
                    tensors[name] = torch.from_numpy(values).contiguous()
            raw = np.asarray(molecule[()]).item()
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{source}: not a checkpoint of PySCF: {error}") from error
    text = raw.decode() if isinstance(raw, bytes) else str(raw)
    try:
        told = json.loads(text)
    except ValueError:
        told = text
    return tensors, {"kind": "pyscf", "molecule": told}


__all__ = ["import_file"]
