"""Packages from outside, of the files that a page of the developer's guide prints."""

import re
import tomllib
from pathlib import Path

GUIDE = Path(__file__).parents[1] / "docs" / "developer"


def files(page: str) -> dict[str, str]:
    """Return the files of a page by name."""
    text = (GUIDE / page).read_text(encoding="utf-8")
    return dict(re.findall(r"^```\w+\n# (\w+\.\w+)\n(.*?)^```$", text, re.M | re.S))


def package(page: str, folder: Path) -> Path:
    """Write them as installing them would, with the names that their project gives."""
    found = files(page)
    for name, text in found.items():
        (folder / name).write_text(text)
    project = tomllib.loads(found["pyproject.toml"])
    modules = {path.removesuffix(".py") for path in found if path.endswith(".py")}
    assert set(project["tool"]["setuptools"]["py-modules"]) == modules
    name = project["project"]["name"].replace("-", "_")
    information = folder / f"{name}-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n"
    )
    names = project["project"]["entry-points"]["scalebridge.parts"]
    points = "".join(f"{key} = {value}\n" for key, value in names.items())
    (information / "entry_points.txt").write_text(f"[scalebridge.parts]\n{points}")
    return folder
