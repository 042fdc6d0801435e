"""Wrappers of other packages: opened where that is right, refused in a sentence where it is not."""

import logging
import re
import warnings

import pytest
import torch
from editing_help import SETTINGS, bits, same_bits
from torch import nn
from transformers import AutoModelForCausalLM

from bluedit import Editor
from bluedit.errors import FactError, ModelError
from bluedit.facts import Fact
from bluedit.model.editable import EditableModel
from bluedit.model.loading import load
from toys import FACTS, fitting, toy_gpt2, toy_llama, toy_tokenizer

IDS = torch.tensor([[7, 8, 9, 10]])


def edit(editor, facts=FACTS[:1], recipe="memit-blue"):
    return editor.edit(facts, recipe, settings=fitting(recipe, SETTINGS), known="edit", report=False)


def refusal(model):
    with pytest.raises(ModelError) as caught:
        EditableModel.of(model, toy_tokenizer())
    return str(caught.value)


# compiled models


@pytest.mark.slow
def test_a_compiled_model_shows_the_edit():
    plain = toy_llama(dtype=torch.float32)
    compiled = torch.compile(plain, backend="eager")
    before = compiled(input_ids=IDS).logits
    editor = Editor(compiled, toy_tokenizer(), tokens=480)
    assert editor.model is plain
    edit(editor)
    after = compiled(input_ids=IDS).logits
    assert not torch.allclose(after, before, atol=1e-3)
    assert torch.allclose(after, plain(input_ids=IDS).logits, atol=1e-4)
    editor.undo()
    assert torch.allclose(compiled(input_ids=IDS).logits, before, atol=1e-4)


@pytest.mark.slow
def test_a_model_compiled_in_place_runs_uncompiled_while_it_is_edited(monkeypatch):
    model, expected = toy_llama(dtype=torch.float32), toy_llama(dtype=torch.float32)
    model.compile(backend="eager")
    model.model.layers[2].compile(backend="eager")
    compiled = model._compiled_call_impl
    monkeypatch.setattr(model.model.layers[2], "_compiled_call_impl", lambda *_a, **_k: pytest.fail("ran compiled"))
    for one in (model, expected):
        edit(Editor(one, toy_tokenizer(), tokens=480))
    assert model._compiled_call_impl is compiled
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), expected.parameters(), strict=True))


def test_a_compiled_part_is_refused():
    model = toy_llama()
    model.model = torch.compile(model.model, backend="eager")
    assert refusal(model) == (
        "model was replaced by torch.compile(model), and edits need hooks that compiled code does not run; "
        "edit first and compile afterwards, or compile in place with model.compile()"
    )


def test_data_parallelism_is_opened():
    model = toy_llama(layers=1)
    assert EditableModel.of(nn.DataParallel(model), toy_tokenizer()).model is model
    assert refusal(nn.Linear(2, 2)).startswith("Linear is not a transformers model; give a decoder that")


# adapters

DOWN = "model.layers.3.mlp.down_proj.weight"


@pytest.fixture
def peft():
    return pytest.importorskip("peft")


def with_lora(peft, *modules, **more):
    """A toy with an adapter that changes what it says."""
    model = peft.get_peft_model(
        toy_llama(dtype=torch.float32), peft.LoraConfig(r=2, target_modules=[*modules], task_type="CAUSAL_LM", **more)
    ).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator))
    return model


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # of PEFT about transformers
@pytest.mark.parametrize("tied", [True, False])
def test_an_edit_under_lora_is_saved_with_the_adapter(tied, peft, tmp_path, caplog):
    model = with_lora(peft, "q_proj", "o_proj", **({} if tied else {"modules_to_save": ["lm_head"]}))
    editor = Editor(model, toy_tokenizer(), tokens=480)
    before = model(input_ids=IDS).logits
    edit(editor)
    edited = model(input_ids=IDS).logits
    assert not torch.allclose(edited, before, atol=1e-3), "the adapter is on while the model is edited"
    bits_before = bits(model)
    with caplog.at_level(logging.INFO):
        folder = editor.save_model(tmp_path / "saved")
    assert same_bits(model, bits_before)
    assert f"its adapters in {folder / 'adapters'}" in caplog.text

    base = AutoModelForCausalLM.from_pretrained(folder)
    assert set(base.state_dict()) == set(toy_llama().state_dict())
    assert torch.equal(base.state_dict()[DOWN], editor.model.state_dict()[DOWN])
    with model.disable_adapter():
        assert torch.allclose(base(input_ids=IDS).logits, model(input_ids=IDS).logits, atol=1e-5)
    again = peft.PeftModel.from_pretrained(base, folder / "adapters").eval()
    assert torch.allclose(again(input_ids=IDS).logits, edited, atol=1e-5)
    whole = peft.AutoPeftModelForCausalLM.from_pretrained(folder / "adapters").eval()
    assert torch.allclose(whole(input_ids=IDS).logits, edited, atol=1e-5), (
        "the adapter names the edited model as its base"
    )


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_adapters_that_cannot_be_edited_under(peft):
    assert "without adapters (merge them first)" in refusal(with_lora(peft, "down_proj"))
    virtual = peft.get_peft_model(
        toy_llama(dtype=torch.float32), peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    )
    assert refusal(virtual) == (
        "the adapter of kind PROMPT_TUNING puts virtual tokens before every text, and bluedit writes facts without them; "
        "edit the model without it (model.get_base_model())"
    )


def test_adapters_that_would_be_saved_alone(tmp_path):
    editor = Editor(toy_llama(dtype=torch.float32), toy_tokenizer(), tokens=480)
    editor.model._hf_peft_config_loaded = True
    with pytest.raises(
        ModelError, match=r"transformers saves only those, and the edits would be lost\. Wrap the model"
    ):
        editor.save_model(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


# quantised weights


class Marked(nn.Linear):
    """A linear map of another package."""


def marked(package, **stored):
    """A toy whose layers look like that package's."""
    kind = type("QuantLinear", (Marked,), {"__module__": f"{package}.nn"})
    model = toy_llama(layers=1, dtype=torch.float32)
    linear = kind(48, 32, bias=False)
    for name, tensor in stored.items():
        linear.register_buffer(name, tensor)
    model.model.layers[0].mlp.down_proj = linear
    return model


@pytest.mark.parametrize(
    ("package", "stored", "config", "expected"),
    [
        ("bitsandbytes", {}, {"quant_method": "bitsandbytes"}, "stores the weights of bitsandbytes, which cannot be edited in place. To edit it, load it without quantization_config, or call model.dequantize(); "),
        ("gptqmodel", {"qweight": torch.zeros(6, 32, dtype=torch.int32)}, {"quant_method": "gptq"}, "quantised (gptq): model.layers.0.mlp.down_proj is a QuantLinear that stores int32, which cannot be edited in place. To edit it, load the checkpoint that it was quantised from; "),
        ("awq", {"qweight": torch.zeros(6, 32, dtype=torch.int32)}, None, "quantised (awq): "),
        ("compressed_tensors", {"weight_packed": torch.zeros(6, 32, dtype=torch.int32)}, {"quant_method": "compressed-tensors"}, "CompressedTensorsConfig(dequantize=True); "),
    ],
)  # fmt: skip
def test_quantised_layers_of_other_packages(package, stored, config, expected):
    model = marked(package, **stored)
    if config:
        model.config.quantization_config = config
    message = refusal(model)
    assert expected in message and message.endswith("; save the edited model, and quantise that")


def test_weights_in_eight_bits():
    model = toy_llama(layers=1, dtype=torch.float32)
    projection = model.model.layers[0].self_attn.q_proj
    projection.weight = nn.Parameter(projection.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
    model.config.quantization_config = {"quant_method": "fp8"}
    assert refusal(model) == (
        "this model is quantised (fp8): model.layers.0.self_attn.q_proj is a Linear that stores float8_e4m3fn, which cannot be edited in "
        "place. To edit it, load it with quantization_config=FineGrainedFP8Config(dequantize=True), or call model.dequantize(); save the "
        "edited model, and quantise that"
    )


def test_dynamic_int8():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(toy_llama(dtype=torch.float32), {nn.Linear}, dtype=torch.qint8)
    assert re.match(
        r"this model is quantised \(torch dynamic quantisation\): model\.layers\.0\.\S+ is a Linear that stores \w+, which cannot be edited in "
        r"place\. To edit it, edit the model before torch\.ao\.quantization\.quantize_dynamic; ",
        refusal(model),
    )


def test_a_dequantised_model_is_edited():
    """Its configuration may still say how it was quantised."""
    model = toy_llama(layers=2, dtype=torch.float32)
    model.config.quantization_config = {"quant_method": "fp8", "dequantize": True}
    assert EditableModel.of(model, toy_tokenizer()).anatomy.n_layers == 2


# tokens and files


@pytest.mark.parametrize(
    ("fact", "options"),
    [
        (Fact("The capital of {} is", subject="Zubrowka", target="Rome"), {}),
        (Fact("The capital of {} is", subject="France", target="Rome Zubrowka"), {"known": "refuse"}),
    ],
)
def test_tokens_without_embeddings_are_named(fact, options):
    model, tokenizer = toy_gpt2(dtype=torch.float32), toy_tokenizer()
    model.resize_token_embeddings(len(tokenizer))
    assert tokenizer.add_tokens(["Zubrowka"]) == 1
    editor = Editor(model, tokenizer, tokens=480)
    before = bits(model)
    with pytest.raises(FactError) as caught:
        editor.edit(fact, "memit-blue", settings=fitting("memit-blue", SETTINGS), **{"known": "edit"} | options)
    assert str(caught.value) == (
        "GPT2LMHeadModel has embeddings for 420 tokens, but its tokenizer made 'Zubrowka' (id 420); "
        "call model.resize_token_embeddings(len(tokenizer)) and train the new rows, or write the text without these tokens"
    )
    assert same_bits(model, before)
    model.resize_token_embeddings(len(tokenizer))
    editor = Editor(model, tokenizer, tokens=480)
    edit(editor, [fact])
    assert not same_bits(model, before)


class Touch:
    """A pickle that writes a file when it is read as pickle reads it."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return open, (self.file, "w")


def pickled(folder, weights):
    model = toy_llama(layers=2, dtype=torch.float32)
    model.config.save_pretrained(folder)
    toy_tokenizer().save_pretrained(folder)
    torch.save(weights(model), folder / "pytorch_model.bin")
    return model


def test_pickled_weights_are_read_as_tensors_only(tmp_path, caplog):
    model = pickled(tmp_path / "m", lambda model: model.state_dict())
    with caplog.at_level(logging.INFO):
        lm = load(str(tmp_path / "m"))
    assert same_bits(lm.model, bits(model))
    assert "has pickled weights (pytorch_model.bin); only tensors are read from them, no code is run" in caplog.text


def test_code_in_pickled_weights_is_not_run(tmp_path):
    pickled(tmp_path / "m", lambda model: {**model.state_dict(), "extra": Touch(tmp_path / "touched")})
    with pytest.raises(ModelError, match=r"^cannot load the model"):
        load(str(tmp_path / "m"))
    assert not (tmp_path / "touched").exists()


# several at once


def test_editors_of_two_models_do_not_know_of_each_other():
    """Also where both have one configuration object, and edits of both alternate."""
    first, second = toy_llama(dtype=torch.float32), toy_llama(dtype=torch.float32, seed=1)
    second.config = first.config
    alone = toy_llama(dtype=torch.float32)
    one, two, single = (Editor(model, toy_tokenizer(), tokens=480) for model in (first, second, alone))
    before = bits(second)
    for fact in FACTS[:2]:
        for editor in (one, two, single):
            edit(editor, [fact], "memit-seq-blue")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), alone.parameters(), strict=True))
    two.reset()
    assert same_bits(second, before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), alone.parameters(), strict=True))
    one.undo()
    single.undo()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), alone.parameters(), strict=True))
