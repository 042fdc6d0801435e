"""How targets and statistics are computed is not part of a recipe: nothing that was stored is lost when it changes."""

from editing_help import bits, edit, make_editor, same_bits

from bluedit import Execution
from toys import FACTS


class Counting:
    """A source of targets that counts how often they are optimised."""

    def __init__(self):
        self.calls = 0

    def get(self, lm, rows, site, objective, optimise):
        self.calls += 1
        return optimise()


def test_stored_targets_serve_any_execution(statistics, tmp_path):
    first = make_editor(statistics=statistics, targets=tmp_path)
    edit(first, FACTS)
    stored = sorted(file.name for file in tmp_path.iterdir())
    assert len(stored) == 2 and first.targets.spared == 0
    for execution in (Execution(tokens_per_step=1), Execution(precision="bf16"), Execution(statistics_device="cpu")):
        again = make_editor(statistics=statistics, targets=tmp_path, execution=execution)
        edit(again, FACTS)
        assert again.targets.spared > 0
        assert sorted(file.name for file in tmp_path.iterdir()) == stored
        assert same_bits(again.model, bits(first.model))
    other = make_editor(statistics=statistics, targets=tmp_path)
    edit(other, FACTS, settings={"objective.clamp": 4.9})
    assert len(list(tmp_path.iterdir())) == 4, "another objective has other targets"


def test_tokens_per_step_hardly_change_the_numbers(statistics):
    one, other = (make_editor(statistics=statistics, execution=Execution(tokens_per_step=tokens)) for tokens in (0, 1))
    for editor in (one, other):
        edit(editor, FACTS)
    for layer in (1, 3):
        W = [editor.lm.projection(layer).matrix() for editor in (one, other)]
        assert (W[0] - W[1]).norm() < 1e-9 * W[0].norm()


def test_norms_survive_another_execution_and_a_saved_patch(statistics, tmp_path):
    """NAS takes its norms from the unedited model once; whoever goes on holds to the same, and optimises nothing for them again."""
    anchored = {"objective.norm_anchor": True}
    first = make_editor(statistics=statistics, targets=Counting())
    patch = edit(first, FACTS[0], "memit-seq-blue", settings=anchored).patch
    norms = patch.batches[0].origin.norms
    assert sorted(site.layer for site in norms) == [1, 3]
    assert first.targets.calls == 3, "once more for the layer whose target comes after a write"
    assert all(norm > 0 for norm in norms.values())
    patch.save(tmp_path / "patch")
    later = make_editor(statistics=statistics, targets=Counting(), execution=Execution(tokens_per_step=1))
    later.apply(tmp_path / "patch")
    for editor in (first, later):
        made = edit(editor, FACTS[1], "memit-seq-blue", settings=anchored)
        assert made.patch.batches[0].origin.norms == norms
    assert (first.targets.calls, later.targets.calls) == (5, 2)
    edit(later, FACTS[2], "memit-seq-blue", settings=anchored | {"objective.steps": 3})
    assert later.targets.calls == 6, "another objective has other norms, measured on the unedited weights"
    assert edit(first, FACTS[2], "memit-seq-blue").patch.batches[0].origin.norms == {}


def test_execution_is_recorded_and_not_part_of_the_recipe(statistics):
    plain, careful = (
        make_editor(statistics=statistics, execution=execution)
        for execution in (None, Execution(precision="full", tokens_per_step=4096, statistics_device="cpu"))
    )
    patches = [edit(editor, FACTS[0]).patch for editor in (plain, careful)]
    assert patches[0].state == patches[1].state
    one, other = (patch.batches[0].origin for patch in patches)
    assert one.settings == other.settings and one.objective == other.objective
    assert one.about["execution"] == {"precision": "auto", "tokens_per_step": 0, "statistics_device": ""}
    assert other.about["execution"] == {"precision": "full", "tokens_per_step": 4096, "statistics_device": "cpu"}
