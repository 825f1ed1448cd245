"""Display names of models, results and checks in pictures and tables.

They are defined here only. Colours follow from the names (:func:`style.model_colour`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_MODELS = {
    "kinetic": "kinetic equation",
    "euler": "Euler",
    "nsf": "Navier-Stokes-Fourier",
    "hme": "hyperbolic moments (HME)",
    "grad": "Grad's moments",
    "learned": "learned closure",
    "closure": "closure",
    "realizable": "realizable moments",
    "learned_realizable": "realizable moments, learned",
    "uniform_gas": "no model: uniform gas",
    "unmoved_gas": "no model: nothing moves",
    # Sources of collision rates.
    "coupled": "coupled",
    "published_integral": "published integral",
    "power_law": "power law",
    "wide_table": "wide table",
    "narrow_table": "narrow table",
    # Potentials.
    "no_symmetry": "no symmetry",
    "local_frame": "local frame",
    "behler_parrinello": "Behler-Parrinello",
    "smooth_deep_potential": "smooth Deep Potential",
    "unconstrained_augmented": "unconstrained, augmented",
}

_VARIANTS = {
    "first": "first order",
    "muscl": "MUSCL",
    "weno5": "WENO5",
    "fine": "finer grid",
}

_COLLISIONS = {"bgk": "BGK", "es": "ES-BGK", "shakhov": "Shakhov"}

_FAMILIES = "|".join(sorted({*_MODELS} - {"closure"}, key=len, reverse=True))
_FAMILIES += r"|closure(?=\d)"  # alone it is a word of many results

_MODEL = re.compile(
    rf"(?:^|(?<!_vs)_)(?P<family>{_FAMILIES})(?!_energy)(?P<moments>\d*)"
    rf"(?P<variants>(?:_(?:{'|'.join(_VARIANTS)}|\d+))*)(?=_|$)"
)

_SPELLED = (("ccsd t", "CCSD(T)"), ("rmse", "RMSE"), ("md", "MD"), ("rdf", "g(r)"))

_CHECKS = {
    "audit": "samples that were never trained on are predicted as well as asked for",
    "certificate": "the gradient agrees with finite differences",
    "conservation": "conserved quantities were constant within their bound",
    "entropy": "entropy never fell",
    "error bars": "every rate is known as well as asked for",
    "error bars are true": "what was learned lies within three error bars of the truth",
    "explosion": "the dynamics stayed finite at every step",
    "finite": "all numbers stayed finite",
    "fit": "what was fitted agrees with the data as well as asked for",
    "labels tolerance": "the goal is known as well as asked for",
    "labels": "every reference calculation converged",
    "loss finite": "training never diverged",
    "positivity": "density and temperature stayed above zero",
    "fallback": "the learned closure was used, and hardly ever its analytic fallback",
    "range": "the closure stayed near the states that it was trained on",
    "recovered": "the value that generated the data was recovered",
    "reference": "the solution agrees with the reference",
    "smoothness": "the smooth Deep Potential drifts less than the local frame",
    "stability": "no strain lowers the energy",
    "stable": "no run diverged",
    "stopped": "learning ended because every stratum met the target, by random labels",
    "stratum": "the committee's error is below the target here",
    "bounds": "bounds of the error held as often as was promised",
    "symmetry": "the smooth Deep Potential errs less than a network without symmetry",
    "trust": "the deviation of the committee stayed below its limit",
    "variational": "no energy lies more than three standard errors below the exact one",
}
"""What a check tests, by the first words of its name."""


@dataclass(frozen=True)
class Named:
    """The name of a result, taken apart.

    Attributes:
        what: what was measured, in words.
        model: by which model, empty where none is named.
    """

    what: str
    model: str = ""


def model(name: str) -> str:
    """Return a model's display name: ``euler_weno5_fine``: Euler (WENO5, finer grid)."""
    found = _MODEL.fullmatch(name)
    return _title(found) if found else name.replace("_", " ")


def curve(name: str, otherwise: str = "") -> str:
    """Return the label of a curve: a model's name, or else what the array says it is."""
    return model(name) if _MODEL.fullmatch(name) else otherwise or name.replace("_", " ")


def _title(found: re.Match[str]) -> str:
    if found["family"] == "grad" and found["moments"]:
        return f"Grad's {found['moments']} moments"
    said = [f"{found['moments']} moments"] if found["moments"] else []
    for part in found["variants"].split("_")[1:]:
        said.append(_VARIANTS.get(part) or f"{part} cells")
    title = _MODELS[found["family"]]
    return f"{title}, {', '.join(said)}" if said else title


def model_of(section: Mapping[str, object]) -> str:
    """Return the display name of the model of a scenario's section."""
    kind = str(section.get("kind", "model"))
    if kind == "kinetic":
        collision = str(section.get("collision") or "bgk")
        return f"{_MODELS['kinetic']} ({_COLLISIONS.get(collision, collision)})"
    if kind == "dsmc":
        return "particles (DSMC)"
    if kind == "hermite":
        kind = "grad" if section.get("closure") == "grad" else "hme"
    scheme = str(section.get("scheme", ""))
    return model(f"{kind}_{scheme}" if kind == "euler" and scheme in _VARIANTS else kind)


def result(name: str, knudsen: Sequence[float] = ()) -> Named:
    """Take the name of a result apart; ``_t03`` is the time 0.3, ``_kn0`` a batch's first.

    Args:
        name: of a figure of the summary.
        knudsen: Knudsen numbers of the scenario's batch.
    """
    title, when = "", ""
    found = _MODEL.search(name)
    if found:
        title = _title(found)
        name = name[: found.start()] + name[found.end() :]
    time = re.search(r"_t(0?)(\d+)$", name)
    if found and time:
        name = name[: time.start()]
        when = f", t\u00a0=\u00a0{'0.' if time[1] else ''}{time[2]}"
    step = re.search(r"_([\d.]+)fs$", name)
    if step:
        name, when = name[: step.start()], f", step {step[1]} fs"
    place = re.search(r"_kn(\d+)$", name)
    if place and int(place[1]) < len(knudsen):
        name = name[: place.start()]
        when = f", Kn\u00a0{knudsen[int(place[1])]:.4g}"
    words = name.strip("_").replace("_", " ")
    for raw, said in _SPELLED:
        words = re.sub(rf"\b{raw}\b", said, words)
    return Named(words + when, title)


def check(name: str) -> tuple[str, str]:
    """Return the name of a check in words, and what it tests (empty if unknown)."""
    found = _MODEL.search(name)
    words = name.replace("_", " ")
    if found:
        stem = name[: found.start()].replace("_", " ")
        words = f"{stem}, {_title(found)}"
    known = [start for start in _CHECKS if words.replace(",", "").startswith(start)]
    return words, _CHECKS[max(known, key=len)] if known else ""
