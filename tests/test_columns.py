"""Text files of columns: what is read, and by what sentence the rest is refused."""

import numpy as np
import pytest

from scalebridge.engine.columns import read_columns
from scalebridge.engine.errors import InputError


def read(folder, text):
    path = folder / "table.txt"
    path.write_text(text, encoding="utf-8")
    return read_columns(path, ("r", "energy"), 3, positive=("r",))


def test_names_comments_commas_and_small_numbers_are_read(tmp_path):
    found = read(tmp_path, "R, Energy\n# a comment\n0.5, -1\n1 0 # here\n\n2 1e-3\n")
    assert np.array_equal(found, [[0.5, 1.0, 2.0], [-1.0, 0.0, 1e-3]])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1 0\n2 0\n", "2 rows of r, energy; at least 3"),
        ("", "0 rows of r, energy; at least 3"),
        ("1 0\n2 0\n2 1\n", "line 3: r 2 after 2; must grow"),
        ("0 0\n1 0\n2 1\n", "line 1: r 0; must be positive and finite"),
        ("1 0\n2 nan\n3 1\n", "line 2: energy nan; must be finite"),
        ("1 0\n2\n3 1\n", "line 2: 1 columns; 2, r, energy"),
        ("1 0\n2 x\n3 1\n", "line 2: '2 x'; numbers r, energy"),
    ],
)
def test_what_is_no_table_is_refused_by_its_line(text, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        read(tmp_path, text)
