"""Wrong but well-formed inputs: none is taken without a word."""

import pytest
import wrong_inputs

WRONG = list(wrong_inputs.every())


def test_there_are_enough_of_them():
    assert len(WRONG) >= 80
    assert len({wrong.name for wrong in WRONG}) == len(WRONG)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_noticed(wrong, tmp_path):
    answer = wrong.answer(tmp_path)
    assert wrong.said in answer
    assert answer.count("\n") == 0
