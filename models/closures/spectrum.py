r"""A closure that is hyperbolic by construction: it learns speeds, not a moment.

What the last moment equation lacks is, in a frozen frame,

    D_{M+1} = df_{M+1}/dx + f_M du/dx + (1/2) f_{M-1} dtheta/dx,

which HME sets to zero; its speeds are then ``u + c_j sqrt(theta)`` with the roots c_j of
He_{M+1}. Any other linear closure ``D_{M+1} = sum_k (..) D_k`` has as its speeds the roots
of ``He_{M+1}(c) - sum_k q_k He_k(c)`` with

    (M + 1)! theta^(-(M+1)/2) D_{M+1} = sum_k q_k k! theta^(-k/2) D_k,

because the right eigenvectors are ``D_k = He_k(c) / k!`` in these units. So the network
answers where the speeds go, each at most a little less than half way to its neighbour;
they stay real and distinct whatever the weights are, and the q_k follow from the roots.
Hyperbolicity as a property of the form, not of the data, is the idea of Huang, Cheng,
Christlieb and Roberts (J. Comput. Phys. 453, 2022, 110941), who learn the row's
coefficients through a symmetriser; the roots are our choice.

The speeds may depend on all that :class:`~.face.FaceClosure` sees, differences over wide
distances included: with those frozen the system is hyperbolic.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import field
from functools import lru_cache
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Gt, Lt
from torch import Tensor, nn

from ..parts import part
from .contract import ClosureOutput, FaceStencil, weights_from
from .face import FaceForm


@part
class SpectrumForm:
    """How to make a :class:`SpectralClosure`."""

    face: FaceForm = field(default_factory=FaceForm)
    """What it sees and how wide the network is."""
    span: Annotated[float, Gt(0), Lt(1)] = 0.9
    """Largest shift of a speed over half the smallest gap of HME's."""
    kind: Literal["spectral_closure"] = "spectral_closure"

    contract: ClassVar = "faces"

    @property
    def order(self) -> int:
        """M."""
        return self.face.order

    @property
    def length(self) -> float:
        """L."""
        return self.face.length

    def __post_init__(self) -> None:
        if not 0.0 < self.span < 1.0:
            raise ValueError(f"span {self.span}: speeds stay apart only between 0 and 1")

    def build(self, seed: int | None = None) -> "SpectralClosure":
        """Return the module with first weights from a seed, or torch's own generator."""
        with weights_from(seed):
            return SpectralClosure(self)


@lru_cache(maxsize=16)
def _hermite_basis(order: int) -> np.ndarray:
    """Powers of c to He_k, ``[M + 2, M + 2]``: rows times coefficients of powers."""
    eye = np.eye(order + 2)
    return np.stack(
        [np.pad(part := np.polynomial.hermite_e.poly2herme(row), (0, order + 2 - len(part)))
         for row in eye]
    )  # fmt: skip


def weights_of(speeds: Tensor) -> Tensor:
    """Return q ``[..., M + 1]`` of the speeds ``[..., M + 1]``."""
    count = speeds.shape[-1]
    poly = [torch.ones_like(speeds[..., 0])]
    for j in range(count):
        c = speeds[..., j]
        lower = [-c * poly[0], *(a - c * b for a, b in itertools.pairwise(poly))]
        poly = [*lower, poly[-1]]
    basis = torch.as_tensor(_hermite_basis(count - 1)).to(speeds)
    return -(torch.stack(poly, -1) @ basis)[..., :-1]


def scaled_changes(mean: Tensor, slope: Tensor) -> Tensor:
    """Return ``k! theta^(-k/2) D_k``, ``[..., M + 1]``, of a slope of w at a mean w."""
    rho, theta = mean[..., 0], mean[..., 2].clamp(min=1e-6)
    du, dtheta = slope[..., 1], slope[..., 2]
    f = [rho, torch.zeros_like(rho), torch.zeros_like(rho), *mean[..., 3:].unbind(-1)]
    found = [slope[..., 0], rho * du, 0.5 * rho * dtheta]
    for k in range(3, mean.shape[-1]):
        found.append(slope[..., k] + f[k - 1] * du + 0.5 * f[k - 2] * dtheta)
    root = theta.rsqrt()
    return torch.stack(
        [math.factorial(k) * root**k * each for k, each in enumerate(found)], -1
    )


class SpectralClosure(nn.Module):
    """The speeds of the moment equations at each face; see the module's text.

    Attributes:
        eyes: inputs, scales and gates; its own network is left out.
    """

    base: Tensor
    parity: Tensor

    def __init__(self, config: SpectrumForm) -> None:
        super().__init__()
        self.config = config
        eyes, order = config.face.build(), config.face.order
        size = len(eyes.net.even_index) + len(eyes.net.odd_index)
        parity = torch.ones(size)
        parity[eyes.net.odd_index] = -1.0
        eyes.net = nn.Identity()  # type: ignore[assignment]
        self.eyes = eyes
        roots = np.polynomial.hermite_e.hermegauss(order + 1)[0]
        self.register_buffer("base", torch.as_tensor(roots))
        self.register_buffer("parity", parity)
        self.net = _perceptron([size, *config.face.hidden, order + 1])

    def speeds(self, z: Tensor, gate: Tensor) -> Tensor:
        """Return the speeds over ``sqrt(theta)``, less u, rising, ``[..., M + 1]``.

        Args:
            z: ``[..., inputs]`` normalised inputs.
            gate: ``[...]``; 0 gives those of HME.
        """
        base = self.base.to(z)
        reach = 0.5 * self.config.span * float(base.diff().min())
        # A mirror image has the opposite speeds in the opposite order.
        shift = 0.5 * (self.net(z) - self.net(z * self.parity).flip(-1))
        return base + reach * torch.tanh(shift) * gate[..., None]

    def change(self, speeds: Tensor, theta: Tensor, scaled: Tensor) -> Tensor:
        """Return D_{M+1} of the speeds and :func:`scaled_changes`."""
        order = speeds.shape[-1] - 1
        unit = theta.clamp(min=1e-6).sqrt() ** (order + 1) / math.factorial(order + 1)
        return unit * (weights_of(speeds) * scaled).sum(-1)

    def forward(self, row: FaceStencil) -> ClosureOutput:
        """Return ``-(M + 1) D_{M+1}``, the largest speed over ``sqrt(theta)``, trust."""
        view = self.eyes.view(row)
        speeds = self.speeds(view.z, self.eyes.onset_gate(row) * view.trust)
        mean = row.mean
        scaled = scaled_changes(mean, (row.high - row.low) / row.spacing)
        change = self.change(speeds, mean[..., 2], scaled)
        order, speed = speeds.shape[-1] - 1, speeds.abs().amax(-1)
        return ClosureOutput(trust=view.trust, source=-(order + 1) * change, speed=speed)


def _perceptron(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.SiLU()]
    return nn.Sequential(*layers[:-1])
