"""The plan of every round, and the tables of decisions and of rounds.

A plan is written before its first label is computed. A restarted run continues with it, so
that exploring is not repeated and cannot end differently.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Generic

import safetensors
import safetensors.torch
import torch
import zarr
from torch import Tensor

from ..errors import DamagedFileError
from ..protocols import Sample
from ..rundir import own_axes, translate_os_errors, write_atomically
from .indicators import Levels
from .label_store import Codec, fingerprint
from .selection import Arm


class LabelState(IntEnum):
    """What became of a sample."""

    NOT_ASKED = 0
    LABELLED = 1
    QUARANTINED = 2


@dataclass(frozen=True)
class Plan(Generic[Sample]):
    """What a round explored and what it labels.

    Attributes:
        deviation: ``[seen]`` estimated error of every sample seen.
        verdict: ``[seen]`` int8, :class:`~.indicators.Verdict`.
        stratum: ``[seen]`` int64, index into ``strata``.
        weight: ``[seen]``, how many screened samples each represents.
        unreached: ``[seen]``, how many samples were not reached because of each.
        rows: ``[chosen]`` int64, rows of the chosen samples, in the order of choice.
        arms: ``[chosen]`` int8, :class:`~.selection.Arm`.
        samples: the chosen samples.
        strata: names.
        levels: in force.
        seconds: that exploring and choosing took.
        feature_map: where samples lie in feature space, for a picture: ``features [n, k]``,
            ``deviation``, ``chosen`` and ``labelled`` (``[n]``); see :func:`feature_map`.
    """

    deviation: Tensor
    verdict: Tensor
    stratum: Tensor
    weight: Tensor
    unreached: Tensor
    rows: Tensor
    arms: Tensor
    samples: Sequence[Sample]
    strata: Sequence[str]
    levels: Levels
    seconds: float
    feature_map: Mapping[str, Tensor] = field(default_factory=dict)


_MAPPED, _DIRECTIONS = 300, 8
"""Samples of a kind, and principal directions, that a feature map keeps."""


def feature_map(
    features: Callable[[list[int]], Tensor],
    known: Callable[[], Tensor],
    deviation: Tensor,
    chosen: Sequence[int],
    rng: torch.Generator,
) -> dict[str, Tensor]:
    """Return the feature map of a round: samples explored, chosen and labelled before.

    All by the features of one committee, so that distances are comparable, projected on
    the principal directions. Samples on which the models failed are left out.

    Args:
        features: ``[rows, d]`` of the rows of what was seen.
        known: ``[m, d]`` of samples that had labels before.
        deviation: ``[seen]``.
        chosen: rows that were chosen.
        rng: picks the rest.
    """
    usable = deviation.isfinite()
    drawn = torch.randperm(len(deviation), generator=rng)[:_MAPPED].tolist()
    rows = [k for k in dict.fromkeys([*chosen, *drawn]) if bool(usable[k])]
    if not rows:
        return {}
    old = known()
    old = old[torch.randperm(len(old), generator=rng)[:_MAPPED]]
    both = torch.cat([features(rows), old]).detach().double().cpu()
    centred = both - both.mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    seen = centred @ directions[:_DIRECTIONS].T
    width = min(_DIRECTIONS, both.shape[1])  # the same in every round
    picked, unknown = set(chosen), torch.full((len(old),), torch.nan)
    return {
        "features": torch.nn.functional.pad(seen, (0, width - seen.shape[1])),
        "deviation": torch.cat([deviation[rows].double(), unknown]),
        "chosen": torch.tensor([k in picked for k in rows] + [False] * len(old)),
        "labelled": torch.arange(len(both)) >= len(rows),
    }


_COLUMNS = (
    "deviation", "verdict", "stratum", "weight", "unreached", "rows", "arms",
)  # fmt: skip


def save_plan(path: Path, plan: Plan[Sample], codec: Codec[Sample]) -> None:
    """Write a plan, whole or not at all."""
    tensors = {name: getattr(plan, name) for name in _COLUMNS}
    tensors |= {f"feature_map.{name}": values for name, values in plan.feature_map.items()}
    for number, sample in enumerate(plan.samples):
        packed = codec.pack(sample)
        tensors |= {f"sample.{number}.{name}": t for name, t in packed.items()}
    about = {
        "strata": list(plan.strata),
        "levels": {k: repr(v) for k, v in vars(plan.levels).items()},
        "seconds": plan.seconds,
    }
    plain = {k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()}
    text = json.dumps(about)
    written = {"plan": text, "check": fingerprint(plain, text)}
    path.parent.mkdir(exist_ok=True)
    write_atomically(
        path,
        lambda part: safetensors.torch.save_file(plain, part, written),
    )


def load_plan(path: Path, codec: Codec[Sample]) -> Plan[Sample] | None:
    """Return the plan that was written, or None.

    Raises:
        DamagedFileError: the file is not what was written.
    """
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, "pt") as file:
            written = file.metadata() or {}
            about = json.loads(written["plan"])
            names = file.keys()
            found = {name: file.get_tensor(name).clone() for name in names}
        if written["check"] != fingerprint(found, written["plan"]):
            raise ValueError("its hash differs")
        columns = {name: found.pop(name) for name in _COLUMNS}
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise DamagedFileError(
            f"{path}: damaged; delete it and resume: the round is explored again, "
            "labels are kept"
        ) from error
    drawn = {n: found.pop(n) for n in list(found) if n.startswith("feature_map.")}
    packed: list[dict[str, Tensor]] = [{} for _ in columns["rows"]]
    for name, tensor in found.items():
        _, number, key = name.split(".", 2)
        packed[int(number)][key] = tensor
    levels = Levels(**{k: float(v) for k, v in about["levels"].items()})
    strata = columns["stratum"][columns["rows"]].tolist()
    samples = [
        codec.named(codec.unpack(tensors), about["strata"][number])
        for tensors, number in zip(packed, strata, strict=True)
    ]
    return Plan(
        **columns,
        samples=samples,
        strata=about["strata"],
        levels=levels,
        seconds=about["seconds"],
        feature_map={name.removeprefix("feature_map."): t for name, t in drawn.items()},
    )


def append(
    store: zarr.Group, table: str, at: int, columns: Mapping[str, Tensor], **attributes: Any
) -> int:
    """Write rows of a table from row ``at`` on, replacing what follows.

    Args:
        store: the run's store.
        table: its group.
        at: number of rows that are final.
        columns: name -> ``[rows]``.
        attributes: kept with the group.

    Returns:
        The number of rows now.
    """
    with translate_os_errors(Path(str(store.store_path))):
        group = store.require_group(table)
        group.attrs.update(attributes)
        end = at
        for name, column in columns.items():
            values = column.detach().cpu().numpy()
            end = at + len(values)
            if name not in group:
                rest = values.shape[1:]
                group.create_array(
                    name,
                    shape=(0, *rest),
                    dtype=values.dtype,
                    chunks=(65536, *rest),
                    dimension_names=("row", *own_axes(name, rest)),
                )
            array = group[name]
            assert isinstance(array, zarr.Array)
            array.resize((end, *array.shape[1:]))
            array[at:end] = values
    return end


def decision_rows(
    number: int, plan: Plan[Any], states: Tensor, errors: Tensor, seconds: Tensor
) -> dict[str, Tensor]:
    """Return one row per sample seen in round ``number``.

    Args:
        number: of the round.
        plan: of the round.
        states: ``[chosen]`` int8, :class:`LabelState`.
        errors: ``[chosen]`` true errors, NaN without label.
        seconds: ``[chosen]`` cost of the labels.
    """
    seen = len(plan.deviation)

    def spread_out(values: Tensor, fill: float) -> Tensor:
        return torch.full((seen,), fill, dtype=values.dtype).index_put((plan.rows,), values)

    return {
        "round": torch.full((seen,), number, dtype=torch.int32),
        "deviation": plan.deviation,
        "verdict": plan.verdict,
        "stratum": plan.stratum.int(),
        "weight": plan.weight,
        "unreached": plan.unreached,
        "arm": spread_out(plan.arms, int(Arm.NONE)),
        "state": spread_out(states, int(LabelState.NOT_ASKED)),
        "error": spread_out(errors, float("nan")),
        "seconds": spread_out(seconds, 0.0),
    }
