"""Whether a potential says the same twice: after others, and on other threads."""

import torch

from ..comparison import worst
from .findings import Finding, at_most
from .samples import Subject, force_scale

ROUNDS = 3


def repeatability(subject: Subject) -> Finding:
    """One structure is asked again and again, with others between and on other threads.

    A result may depend on the order of a sum, which threads change, but not by more than
    the arithmetic does; a result that depends on what was asked before is wrong.
    """
    bulk = subject.bulk
    reference = subject.ask(bulk, bulk.positions[None])
    others = (bulk.shaken(0.1, 7), subject.cluster(6), subject.small)
    threads, values = torch.get_num_threads(), []
    scale = force_scale(reference)
    size = scale * bulk.atoms**0.5
    try:
        for number in range(ROUNDS):
            other = others[number % len(others)]
            subject.ask(other, other.positions[None])
            torch.set_num_threads(1 + number % 2)
            found = subject.ask(bulk, bulk.positions[None])
            values += [
                float((found.energy - reference.energy).abs().max()) / size,
                float((found.forces - reference.forces).abs().max()) / scale,
            ]
    finally:
        torch.set_num_threads(threads)
    detail = f"{ROUNDS} times, after other structures, on one and two threads"
    return at_most("repeatability", worst(values), subject.exact, detail=detail)


__all__ = ["repeatability"]
