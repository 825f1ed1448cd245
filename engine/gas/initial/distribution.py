"""A distribution function that was computed or measured elsewhere."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ....models.parts import part
from ...errors import InputError
from ...schema.base import InputPath, locate
from ..grid import Grid
from ..kinetic.velocities import Velocities
from ..material import Gas
from .base import Start
from .stored import ROUNDED, check_axes, load, on_cells


@part
class Distribution:
    """f on the model's own nodes, from an .npz file or a zarr group; for kinetic models.

    Arrays: cell centres ``x`` (``y``, ``z``), nodes ``vx`` (``vy``, ``vz``) and ``f``
    ``[*cells, *nodes]``, whose sum over the nodes times their spacing is the density. Where
    the gas has more directions than there are nodes for, f is integrated over them, and
    ``energy`` of the same shape is the integral of f times their velocity squared.
    """

    path: InputPath
    """The file or the zarr folder, relative to the scenario file."""
    kind: Literal["distribution"] = "distribution"

    def located(self, base: Path) -> "Distribution":
        """Return the part with the file found."""
        return replace(self, path=locate(self.path, base))

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        found = load(self.path)
        known = {*"xyz", "vx", "vy", "vz", "f", "energy"}
        if unknown := sorted(set(found) - known):
            raise self._refused(f"arrays {', '.join(unknown)} are not used")
        if not {"x", "vx", "f"} <= set(found):
            raise self._refused("needs the arrays x, vx and f")
        for name in {"vx", "vy", "vz"} & set(found):
            step = np.diff(found[name]) if found[name].ndim == 1 else np.zeros(0)
            even = len(step) > 0 and np.allclose(step, step[0], rtol=ROUNDED, atol=0)
            if not even or not step[0] > 0:
                raise self._refused(f"{name} must be a list of evenly rising nodes")
        for name in {"f", "energy"} & set(found):
            if not np.isfinite(found[name]).all() or bool((found[name] < 0).any()):
                raise self._refused(f"{name} must be finite and nowhere negative")
        return found

    def _refused(self, why: str) -> InputError:
        return InputError(f"initial.path: {self.path}: {why}")

    def _nodes(self) -> list[np.ndarray]:
        arrays = self._arrays
        return [arrays[f"v{name}"] for name in "xyz" if f"v{name}" in arrays]

    def _parts(self, grid: Grid, gas: Gas) -> Tensor:
        """Return f and energy on the cells of a grid, ``[parts, *cells, *nodes]``."""
        arrays, nodes = self._arrays, self._nodes()
        cells = [arrays[name] for name in "xyz" if name in arrays]
        check_axes(cells, grid, str(self.path))
        names = ["f", "energy"] if len(nodes) < gas.dimension else ["f"]
        if ("energy" in arrays) != ("energy" in names):
            what = "needs" if "energy" in names else "has no use for"
            raise self._refused(
                f"f of {len(nodes)} velocities in a gas of {gas.dimension} directions "
                f"{what} the array energy"
            )
        shape = tuple(len(axis) for axis in (*cells, *nodes))
        for name in names:
            if arrays[name].shape != shape:
                raise self._refused(
                    f"{name} has shape {arrays[name].shape}; the axes {shape}"
                )
        given = torch.from_numpy(np.stack([arrays[name] for name in names]))
        rows = given.flatten(1 + grid.dim).movedim(-1, 1).flatten(0, 1)
        found = on_cells(rows, cells, grid).unflatten(0, (len(names), -1))
        return found.movedim(1, -1).unflatten(-1, shape[grid.dim :])

    def fields(self, grid: Grid, gas: Gas, gamma: float) -> Start:
        """Return the moments of f.

        Raises:
            InputError: an array that is missing, unknown, negative or of another shape, a
                box that does not cover this one, a cell without molecules.
        """
        parts, nodes = self._parts(grid, gas), self._nodes()
        weight = float(np.prod([axis[1] - axis[0] for axis in nodes]))
        v = torch.stack(
            torch.meshgrid(*(torch.from_numpy(a) for a in nodes), indexing="ij"), -1
        ).flatten(0, -2)
        f, *energy = (weight * each.flatten(grid.dim) for each in parts)
        rho = f.sum(-1)
        if not bool((rho > 0).all()):
            raise self._refused("f has cells without molecules")
        u = (f @ v) / rho[..., None]
        total = f @ v.square().sum(-1) + sum(each.sum(-1) for each in energy)
        t = (total / rho - u.square().sum(-1)) / gas.dimension
        return Start(rho, torch.nn.functional.pad(u, (0, 3 - u.shape[-1])), t)

    def distribution(
        self, grid: Grid, gas: Gas, knudsen: Tensor, velocities: Velocities
    ) -> Tensor:
        """Return f, ``[batch, parts, *cells, nodes]``, of every system the same.

        Raises:
            InputError: the nodes are not those of the model.
        """
        nodes = self._nodes()
        own = [velocities.axis(d).numpy() for d in range(velocities.axes)]
        same = len(nodes) == len(own) and all(
            a.shape == b.shape and np.allclose(a, b, rtol=0, atol=ROUNDED * h)
            for a, b, h in zip(nodes, own, velocities.spacing, strict=True)
        )
        if not same:
            ours = ", ".join(f"{len(a)} from {a[0]:.6g} to {a[-1]:.6g}" for a in own)
            raise self._refused(f"its nodes are not those of model.nodes: {ours}")
        parts = self._parts(grid, gas).flatten(1 + grid.dim)
        return parts.expand(len(knudsen), *parts.shape)
