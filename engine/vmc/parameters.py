"""The parameters of a module as one vector."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Flat:
    """A module whose parameters are views of one vector, :attr:`vector`.

    Natural gradient, averaging and checkpoints work on the vector; :attr:`slices` says
    where each parameter stands in it. The module given becomes part of it; other parameters
    go into another one (:meth:`at`), which shares :attr:`known`: what has been found out
    about the module whatever its parameters are.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        named = list(module.named_parameters())
        self.vector = torch.cat([p.detach().reshape(-1) for _, p in named])
        self.slices: dict[str, tuple[slice, torch.Size]] = {}
        self.known: dict[str, Any] = {}
        begin = 0
        for name, parameter in named:
            part = slice(begin, begin + parameter.numel())
            self.slices[name] = (part, parameter.shape)
            parameter.data = self.vector[part].view(parameter.shape)
            begin = part.stop
        self.size = begin

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the parameters."""
        return self.vector.dtype

    def at(self, vector: Tensor) -> "Flat":
        """Return the module with the parameters ``vector``; this one does not change.

        The parameters of the new module are views of ``vector``; buffers are shared.
        """
        known: dict[int, Any] = {id(buffer): buffer for buffer in self.module.buffers()}
        for name, parameter in self.module.named_parameters():
            part, shape = self.slices[name]
            known[id(parameter)] = nn.Parameter(vector[part].view(shape))
        found = copy.copy(self)
        found.vector, found.module = vector, copy.deepcopy(self.module, known)
        return found

    def join(self, named: Mapping[str, Tensor], out: Tensor) -> None:
        """Write tensors ``[batch, *shape]`` side by side into ``out [batch, p]``."""
        for name, (part, _) in self.slices.items():
            out[:, part] = named[name].reshape(len(out), -1)

    def named(self) -> dict[str, Tensor]:
        """Return the detached parameters by name."""
        return {name: p.detach() for name, p in self.module.named_parameters()}
