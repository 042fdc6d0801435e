"""Vision-language models: their language model is edited, with a processor in place of the tokenizer, and loaded by name."""

import pytest

from bluedit import Editor
from bluedit.model.loading import load
from families import FAMILIES
from toys import FACTS, toy_tokenizer

SEEING = [pytest.param(f, id=f.name, marks=[] if f.known else pytest.mark.skip) for f in FAMILIES if f.vision]


@pytest.mark.parametrize("family", SEEING)
def test_a_folder_is_loaded(family, tmp_path):
    model = family.make()
    model.save_pretrained(tmp_path)
    toy_tokenizer().save_pretrained(tmp_path)
    lm = load(str(tmp_path))
    assert type(lm.model) is type(model)
    assert [p.name for p in lm.anatomy.projections] == [
        f"model.language_model.layers.{i}.mlp.down_proj" for i in range(3)
    ]
    assert lm.max_length == 256


def test_a_processor_stands_for_its_tokenizer():
    pytest.importorskip("PIL")
    from transformers import CLIPImageProcessor, LlavaProcessor

    (family,) = (f for f in FAMILIES if f.kind == "llava")
    tokenizer = toy_tokenizer()
    processor = LlavaProcessor(image_processor=CLIPImageProcessor(), tokenizer=tokenizer, patch_size=8)
    editor = Editor(family.make(), processor, tokens=256)
    assert editor.lm.tokenizer is tokenizer
    edited = editor.edit(
        FACTS[:1], "rome", settings={"layers": [0], "objective.steps": 2, "contexts.count": 0}, known="edit"
    )
    assert edited.report is not None and len(edited.patch.facts) == 1
