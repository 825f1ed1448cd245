"""The fitting network: features of one atom to its energy, per species and per member."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Fitting(nn.Module):
    """``E_i = scale * N_species(( D - mean ) / width) + bias_species``.

    Hidden layers are tanh; between layers of equal width ``h' = skip h + dt tanh(...)``
    with trainable dt (DeePMD-kit's ``resnet_dt``: skip 1, dt near 0.1).

    Attributes:
        energy_bias: ``[species]`` eV, always f64, from least squares, not trained.
        energy_scale: eV, typical size of what the network has to give.
    """

    mean: Tensor
    width: Tensor
    energy_scale: Tensor
    energy_bias: Tensor

    def __init__(
        self,
        members: int,
        species: int,
        blocks: Sequence[int],
        hidden: Sequence[int],
        skip: float,
        timestep: float,
    ) -> None:
        super().__init__()
        self.blocks, self.skip, self.timestep = tuple(blocks), skip, timestep
        sizes = [sum(blocks), *hidden, 1]
        pairs = list(itertools.pairwise(sizes))

        def parameters(shapes: list[tuple[int, int]]) -> nn.ParameterList:
            return nn.ParameterList(
                nn.Parameter(torch.zeros(members, species, *shape)) for shape in shapes
            )

        self.weights = parameters(pairs)
        self.biases = parameters([(1, b) for _, b in pairs])
        self.timesteps = parameters([(1, b) for a, b in pairs if a == b])
        self.register_buffer("mean", torch.zeros(members, species, 1, sizes[0]))
        self.register_buffer("width", torch.ones(members, species, 1, sizes[0]))
        self.register_buffer("energy_scale", torch.ones(()))
        self.register_buffer("energy_bias", torch.zeros(species, dtype=torch.float64))

    def _apply(self, fn, recurse: bool = True):  # noqa: ANN001, ANN202 - torch's signature
        exact = self.energy_bias
        super()._apply(fn, recurse)
        # Total energies of 1e4 eV do not fit into f32, so the bias keeps its precision.
        self.energy_bias = exact.to(self.energy_bias.device)
        return self

    def reset(self, generator: torch.Generator) -> None:
        """Draw weights N(0, 1 / n_in), biases N(0, 0.3^2), dt N(timestep, 0.001^2)."""

        def draw(target: Tensor, spread: float) -> Tensor:
            return torch.randn(target.shape, generator=generator) * spread

        with torch.no_grad():
            for weight in self.weights:
                weight.copy_(draw(weight, weight.shape[-2] ** -0.5))
            for bias in self.biases:
                bias.copy_(draw(bias, 0.3))
            for step in self.timesteps:
                step.copy_(self.timestep + draw(step, 0.001))

    def forward(self, features: Tensor, species: Tensor) -> Tensor:
        """``[members, atoms, features]``, ``[atoms]`` -> ``[members, atoms]`` eV in f64."""
        count = self.mean.shape[1]
        if count == 1:
            raw = self.network(features, 0)
        else:
            rows = [(species == index).nonzero()[:, 0] for index in range(count)]
            parts = [self.network(features[:, r], k) for k, r in enumerate(rows)]
            raw = torch.cat(parts, 1)[:, torch.argsort(torch.cat(rows))]
        bias = self.energy_bias[species.long()]
        return (raw * self.energy_scale).double() + bias

    def network(self, features: Tensor, species: int) -> Tensor:
        """Return the raw output ``[members, atoms]`` of one species' network."""
        hidden = (features - self.mean[:, species]) / self.width[:, species]
        steps = iter(self.timesteps)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            w = weight[:, species]
            new = hidden @ w + bias[:, species]
            if layer < last:
                new = torch.tanh(new)
                if w.shape[-1] == w.shape[-2]:
                    new = self.skip * hidden + next(steps)[:, species] * new
            hidden = new
        return hidden[..., 0]

    @torch.no_grad()
    def set_statistics(self, features: Tensor, species: Tensor) -> None:
        """Set mean per feature and one width per block, for each species."""
        for index in range(self.mean.shape[1]):
            rows = features[:, species == index]
            if rows.shape[1] < 2:
                continue
            spread = rows.std(1, keepdim=True)
            widths = [
                part.square()
                .mean(-1, keepdim=True)
                .sqrt()
                .clamp(min=1e-6)
                .expand(part.shape)
                for part in spread.split(list(self.blocks), -1)
            ]
            self.mean[:, index] = rows.mean(1, keepdim=True)
            self.width[:, index] = torch.cat(widths, -1)

    @torch.no_grad()
    def set_energy(self, counts: Tensor, energies: Tensor) -> Tensor:
        """Fit the bias by least squares (minimum norm) and the scale to what is left.

        Args:
            counts: ``[frames, species]`` atoms of each species in a frame.
            energies: ``[frames]`` eV, f64.

        Returns:
            Residual energies ``[frames]`` eV.
        """
        counts = counts.double()
        bias = torch.linalg.pinv(counts) @ energies.double()
        self.energy_bias.copy_(bias)
        rest = energies.double() - counts @ bias
        per_atom = rest / counts.sum(1)
        spread = float(per_atom.std()) if len(per_atom) > 1 else 0.0
        self.energy_scale.fill_(spread + 0.05)
        return rest
