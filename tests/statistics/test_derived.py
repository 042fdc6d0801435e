"""Matrices kept beside statistics are only used where they are sound and belong to what is asked for."""

import torch

from bluedit import Editor, recipes
from bluedit.maths.moment import SecondMoment
from bluedit.statistics._derived_file import kept_matrix
from toys import FACTS, toy_llama, toy_tokenizer

CPU = torch.device("cpu")


def test_a_matrix_is_computed_once_and_again_where_its_file_is_no_use(tmp_path):
    file, computed = tmp_path / "new" / "matrix.safetensors", []

    def kept(identity, value=1.0):
        return kept_matrix(file, identity, lambda: computed.append(value) or torch.full((2, 3), value), CPU)

    assert torch.equal(kept({"layer": 1}), torch.ones(2, 3)) and torch.equal(kept({"layer": 1}, 2.0), torch.ones(2, 3))
    assert torch.equal(kept({"layer": 2}, 3.0), torch.full((2, 3), 3.0)), "of something else"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert torch.equal(kept({"layer": 2}, 4.0), torch.full((2, 3), 4.0)), "damaged"
    assert computed == [1.0, 3.0, 4.0]


def test_a_place_that_cannot_be_written_only_costs_time(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    found = kept_matrix(tmp_path / "file" / "matrix.safetensors", {}, lambda: torch.eye(2), CPU)
    assert torch.equal(found, torch.eye(2))


def test_directions_of_a_bundled_part_are_found_by_the_next_editor(tmp_path, monkeypatch):
    toy_llama().save_pretrained(tmp_path / "toy")
    toy_tokenizer(bos=True).save_pretrained(tmp_path / "toy")
    recipe = recipes["memit"].override(
        {"keys": "specific", "layers": [1, 2], "objective.steps": 1, "contexts.count": 1}
    )
    asked, leading = [], SecondMoment.leading
    monkeypatch.setattr(SecondMoment, "leading", lambda self, e: asked.append(self.layer) or leading(self, e))
    for _ in range(2):
        editor = Editor.load(str(tmp_path / "toy"), tokens=480)
        editor.edit(FACTS[:1], recipe, known="edit", report=False)
    assert sorted(asked) == [1, 2], "once for both editors"
    assert len(list(editor.moments.of_names.place.glob("derived-*.safetensors"))) == 2
