"""Facts that a recipe writes again: where the second time breaks the guard or fails, they stay as they were after the first."""

from dataclasses import dataclass

import pytest
from editing_help import bits, edit, make_editor, same_bits

from bluedit import Fact
from bluedit.editing.rules import Rule
from bluedit.errors import FailedFactsError
from bluedit.options import number
from bluedit.writing import writer
from bluedit.writing.writer import FactWriter

LEARNED = Fact("We all live in {}", subject="France", target="The")  # a toy can learn that
LEARN = {"objective.steps": 40}
SETTINGS = LEARN | {"reteach": 1}


@pytest.fixture
def second(monkeypatch):
    """Becomes true when the first time is over; then the model has lost its fact."""
    found = []
    monkeypatch.setattr(FactWriter, "_lost", lambda self, recipe, batches: found.append(True) or [LEARNED])
    return found


@pytest.fixture
def harm(second):
    """A rule that every batch of the second time breaks."""

    @dataclass(frozen=True)
    class Harm(Rule, kind="harm"):
        """Breaks when facts are written again."""

        limit: float = number(0.5, "how much")
        noun = "harm"

        def figure(self, model):
            return float(bool(second))

    yield
    Harm.choices.pop(Harm.kind, None)


@pytest.fixture
def once(statistics):
    """The weights after the first time."""
    editor = make_editor(statistics=statistics)
    edit(editor, [LEARNED], "memit-seq-blue", settings=LEARN)
    return bits(editor.model)


@pytest.mark.usefixtures("harm")
@pytest.mark.parametrize("action", ["bisect", "soften"])
def test_a_second_time_that_breaks_a_rule_is_taken_back(action, statistics, once):
    editor = make_editor(statistics=statistics)
    options = {"guard": "harm", "on_violation": action, "settings": SETTINGS, "report": True}
    made = edit(editor, [LEARNED], "memit-seq-blue", **options)
    assert same_bits(editor.model, once) and made.facts == (LEARNED,), "none is left out"
    assert any("1 fact was not written a second time: harm" in line for line in made.guard)


@pytest.mark.parametrize("skip_failed", [True, False])
def test_facts_that_fail_the_second_time_are_not_left_out(skip_failed, statistics, once, second, monkeypatch):
    write = writer.write_batch

    def failing(context, batch_of):
        if second:
            raise FailedFactsError("the loss is not finite", "lower it", [0])
        return write(context, batch_of)

    monkeypatch.setattr(writer, "write_batch", failing)
    editor = make_editor(statistics=statistics)
    if not skip_failed:
        before = bits(editor.model)
        with pytest.raises(FailedFactsError):
            edit(editor, [LEARNED], "memit-seq-blue", settings=SETTINGS)
        assert same_bits(editor.model, before)
        return
    made = edit(editor, [LEARNED], "memit-seq-blue", settings=SETTINGS, skip_failed=True)
    assert same_bits(editor.model, once) and made.facts == (LEARNED,)
    assert not made.left_out
