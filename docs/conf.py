"""Sphinx settings; what can be read off the program is written before the build."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import generate

project = "scalebridge"
author = "The scalebridge developers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "scalebridge"
autodoc_typehints = "none"
autodoc_mock_imports: list[str] = []
nitpicky = False

generate.write(Path(__file__).parent / "reference")
