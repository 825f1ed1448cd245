"""SOAP: Adam in the eigenbasis of Shampoo's factors (Vyas et al., arXiv:2409.11321)."""

from collections.abc import Iterable

import torch
from torch import Tensor


class Soap(torch.optim.Optimizer):
    """Algorithm 3 of the paper, with the first moment kept in the rotated basis.

    A parameter ``[..., a, b]`` is a stack of matrices W, each with factors ``L = <G G^T>``
    and ``R = <G^T G>`` and their eigenvectors Q_L, Q_R; ``G' = Q_L^T G Q_R`` feeds Adam and
    the step is rotated back. The eigenvectors follow by one step of orthogonal iteration
    (QR) every ``refresh`` steps. Vectors and sides longer than ``largest`` stay unrotated.

    Args:
        parameters: what to optimise.
        lr: learning rate.
        betas: decay of the first and second moment (and of the factors).
        weight_decay: decoupled: ``W <- (1 - lr weight_decay) W`` before the step.
        refresh: steps between refreshes of the eigenvectors.
        largest: longest side that is rotated.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        weight_decay: float = 0.0,
        refresh: int = 10,
        largest: int = 700,
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(parameters, {"lr": lr})
        self.betas, self.weight_decay = betas, weight_decay
        self.refresh, self.largest, self.epsilon = refresh, largest, epsilon

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Make one step; the very first only measures the factors."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group["lr"])

    def _update(self, parameter: Tensor, lr: float) -> None:
        matrix = parameter.ndim >= 2 and min(parameter.shape[-2:]) > 1
        shape = parameter.shape[-2:] if matrix else (1, parameter.numel())
        gradient = parameter.grad.reshape(-1, *shape)  # type: ignore[union-attr]
        state = self.state[parameter]
        if not state:
            self._start(state, gradient, matrix)
            return
        first, second = self.betas
        state["count"] += 1
        count = int(state["count"])
        rotated = _rotate(state, gradient)
        state["mean"].lerp_(rotated, 1 - first)
        state["square"].mul_(second).addcmul_(rotated, rotated, value=1 - second)
        spread = (state["square"] / (1 - second**count)).sqrt_().add_(self.epsilon)
        step = _rotate_back(state, state["mean"] / spread) / (1 - first**count)
        if self.weight_decay:
            parameter.mul_(1 - lr * self.weight_decay)
        parameter.sub_(step.reshape(parameter.shape), alpha=lr)
        if "left" in state:
            state["left"].lerp_(gradient @ gradient.mT, 1 - second)
        if "right" in state:
            state["right"].lerp_(gradient.mT @ gradient, 1 - second)
        if count % self.refresh == 1:
            self._refresh(state)

    def _start(self, state: dict, gradient: Tensor, matrix: bool) -> None:
        state["count"] = torch.zeros((), dtype=torch.int64)
        state["mean"] = torch.zeros_like(gradient)
        state["square"] = torch.zeros_like(gradient)
        for name, size in (("left", gradient.shape[-2]), ("right", gradient.shape[-1])):
            if matrix and size <= self.largest:
                factor = (
                    gradient @ gradient.mT if name == "left" else gradient.mT @ gradient
                )
                eye = torch.eye(size, dtype=factor.dtype, device=factor.device)
                state[name] = factor
                state[f"{name}_basis"] = (
                    torch.linalg.eigh(factor + 1e-12 * eye)[1].flip(-1).contiguous()
                )

    def _refresh(self, state: dict) -> None:
        for name, axis in (("left", -2), ("right", -1)):
            if name not in state:
                continue
            factor, basis = state[name], state[f"{name}_basis"]
            image = factor @ basis
            order = (basis * image).sum(-2).argsort(-1, descending=True)
            # Contiguous as in a checkpoint: the layout decides how products round.
            new = torch.linalg.qr(_pick(image, order, -1))[0].contiguous()
            turn = new.mT @ basis
            state["mean"] = turn @ state["mean"] if axis == -2 else state["mean"] @ turn.mT
            state["square"] = _pick(state["square"], order, axis)
            state[f"{name}_basis"] = new


def _pick(values: Tensor, order: Tensor, axis: int) -> Tensor:
    index = order[:, :, None] if axis == -2 else order[:, None, :]
    return torch.gather(values, axis, index.expand_as(values))


def _rotate(state: dict, value: Tensor) -> Tensor:
    if "left_basis" in state:
        value = state["left_basis"].mT @ value
    if "right_basis" in state:
        value = value @ state["right_basis"]
    return value


def _rotate_back(state: dict, value: Tensor) -> Tensor:
    if "left_basis" in state:
        value = state["left_basis"] @ value
    if "right_basis" in state:
        value = value @ state["right_basis"].mT
    return value
