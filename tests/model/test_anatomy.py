"""Blocks, projections and head found from the structure; models that cannot be edited refused; nothing left changed."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from bluedit.errors import ModelError
from bluedit.model.dissection import dissect
from bluedit.model.editable import EditableModel
from bluedit.model.fingerprint import weights_fingerprint
from bluedit.model.hooks import hooked
from toys import FAMILIES, toy_gpt2, toy_llama, toy_tokenizer

SIZE = {
    "vocab_size": 432,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
}
GEMMA = SIZE | {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8}
GPT = {"vocab_size": 432, "n_embd": 32, "n_layer": 3, "n_head": 4, "initializer_range": 0.3}


def made(kind, config):
    torch.manual_seed(0)
    return kind(config).double().eval()


OTHERS = {
    "gptj": (lambda: made(GPTJForCausalLM, GPTJConfig(**GPT, rotary_dim=4)), "transformer.h.{}.mlp.fc_out", True),
    "neox": (lambda: made(GPTNeoXForCausalLM, GPTNeoXConfig(**SIZE, intermediate_size=48)), "gpt_neox.layers.{}.mlp.dense_4h_to_h", True),
    "opt": (
        lambda: made(OPTForCausalLM, OPTConfig(**{k: v for k, v in SIZE.items() if k != "initializer_range"}, ffn_dim=48, word_embed_proj_dim=32)),
        "model.decoder.layers.{}.fc2", True,
    ),
    "phi": (lambda: made(PhiForCausalLM, PhiConfig(**SIZE, intermediate_size=48)), "model.layers.{}.mlp.fc2", True),
    "bloom": (lambda: made(BloomForCausalLM, BloomConfig(**{k: GPT[k] for k in ("vocab_size", "n_layer", "n_head")}, hidden_size=32)), "transformer.h.{}.mlp.dense_4h_to_h", True),
    "gemma2": (lambda: made(Gemma2ForCausalLM, Gemma2Config(**GEMMA)), "model.layers.{}.mlp.down_proj", False),
    "gemma3": (lambda: made(Gemma3ForCausalLM, Gemma3TextConfig(**GEMMA)), "model.layers.{}.mlp.down_proj", False),
}  # fmt: skip
NAMES = {"llama": "model.layers.{}.mlp.down_proj", "gpt2": "transformer.h.{}.mlp.c_proj"}


def keys_and_values(anatomy, model, layer):
    """What went into and came out of a projection in a forward pass."""
    seen = []
    with (
        hooked([(anatomy.projections[layer].module, "forward", lambda _m, args, out: seen.append((args[0], out)))]),
        torch.no_grad(),
    ):
        model(input_ids=torch.tensor([[7, 8, 9, 10]]))
    return seen[0]


def check_projections(model, name, depth):
    anatomy = dissect(model)
    assert [p.name for p in anatomy.projections] == [name.format(layer) for layer in range(depth)]
    assert anatomy.n_layers == len(anatomy.blocks) == depth
    modules = dict(model.named_modules())
    for layer, projection in enumerate(anatomy.projections):
        assert projection.module is modules[projection.name]
        K, V = keys_and_values(anatomy, model, layer)
        W = projection.matrix()
        bias = 0 if projection.module.bias is None else projection.module.bias
        assert W.shape == (V.shape[-1], K.shape[-1])
        assert projection.d_key == K.shape[-1]
        assert torch.allclose(K @ W.T + bias, V, rtol=1e-12, atol=1e-12)
    return anatomy


@pytest.mark.parametrize("family", FAMILIES)
def test_projections_of_the_toys(family):
    """Also where W is square: W k must be what the model computes, not its transpose."""
    model = FAMILIES[family]()
    anatomy = check_projections(model, NAMES[family.split("-")[0]], 5)
    assert anatomy.additive
    assert anatomy.head is model.lm_head
    assert anatomy.projections[0].transposed is family.startswith("gpt2")
    if family.endswith("square"):
        K, V = keys_and_values(anatomy, model, 0)
        assert not torch.allclose(K @ anatomy.projections[0].matrix(), V, atol=1e-2), (
            "symmetric W: the test cannot fail"
        )


@pytest.mark.parametrize("family", OTHERS)
def test_projections_of_other_families(family):
    make, name, additive = OTHERS[family]
    anatomy = check_projections(make(), name, 3)
    assert anatomy.additive is additive


def test_writing_to_the_matrix_changes_the_model():
    for make in (toy_llama, toy_gpt2):
        lm = EditableModel.of(make(), toy_tokenizer(), "toy")
        before = weights_fingerprint(lm.model)
        K, V = keys_and_values(lm.anatomy, lm.model, 2)
        k, wish = K[0, 2], torch.linspace(-1, 1, 32).double()
        lm.projection(2).matrix().add_(torch.outer(wish, k) / (k @ k))
        assert weights_fingerprint(lm.model) != before
        _, changed = keys_and_values(lm.anatomy, lm.model, 2)
        assert torch.allclose(changed[0, 2] - V[0, 2], wish)


class Normalised(nn.Module):
    """An MLP whose output is normalised before it is added, as Gemma 2 and OLMo 2 do."""

    def __init__(self, mlp):
        super().__init__()
        self.mlp, self.norm = mlp, nn.RMSNorm(32, dtype=torch.float64)

    def forward(self, x):
        return self.norm(self.mlp(x))


def test_blocks_that_normalise_the_projections_output_are_not_additive():
    model = toy_llama()
    for layer in model.model.layers:
        layer.mlp = Normalised(layer.mlp)
    anatomy = check_projections(model, "model.layers.{}.mlp.mlp.down_proj", 5)
    assert anatomy.additive is False


class Scaled(Normalised):
    """Granite multiplies the output by a constant."""

    def __init__(self, mlp, factor):
        super().__init__(mlp)
        self.factor = factor

    def forward(self, x):
        return self.factor * self.mlp(x)


def test_multiples_of_the_projections_output_are_measured_block_by_block():
    factors = (0.5, 1.0, 0.22, -1.5, 1.001)
    model = toy_llama()
    for layer, factor in zip(model.model.layers, factors, strict=True):
        layer.mlp = Scaled(layer.mlp, factor)
    anatomy = check_projections(model, "model.layers.{}.mlp.mlp.down_proj", 5)
    assert anatomy.additive
    assert anatomy.scales == pytest.approx(factors, rel=2e-3)
    assert (anatomy.scale(1), anatomy.scale(4)) == (
        1.0,
        1.0,
    )  # exactly: the weights change as they would without a measurement
    model.model.layers[2].mlp = Normalised(model.model.layers[2].mlp)
    assert not dissect(model).additive


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_additive_is_measured_right_at_every_precision(dtype):
    for make in (toy_llama, toy_gpt2):
        assert dissect(make(dtype=dtype)).scales == (1.0,) * 5
    assert not dissect(made(Gemma2ForCausalLM, Gemma2Config(**GEMMA)).to(dtype)).additive


# refusals


def refusal(model):
    with pytest.raises(ModelError) as caught:
        EditableModel.of(model, toy_tokenizer())
    return str(caught.value)


def test_encoder_decoder():
    model = T5ForConditionalGeneration(T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=16, num_layers=2, num_heads=2))
    assert refusal(model) == "this is an encoder-decoder model; bluedit edits decoder-only causal language models"


def test_mixture_of_experts():
    model = MixtralForCausalLM(MixtralConfig(**SIZE, intermediate_size=16, num_key_value_heads=2, num_local_experts=3))
    assert refusal(model) == (
        "this model is a mixture of experts (num_local_experts=3): a fact has no single projection there, "
        "so bluedit does not edit it; use a dense model"
    )


def test_a_dense_checkpoint_of_a_family_that_also_has_experts():
    model = toy_llama()
    model.config.num_local_experts = 8
    assert len(dissect(model).projections) == 5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_encoders(dtype):
    config = BertConfig(**SIZE, intermediate_size=48, max_position_embeddings=64)
    for kind in (BertForMaskedLM, BertLMHeadModel):
        assert refusal(made(kind, config).to(dtype)).startswith(
            f"{kind.__name__} is not causal: another second token changes the hidden state at the first"
        )
    config.is_decoder = True
    assert dissect(made(BertLMHeadModel, config).to(dtype)).n_layers == 3


@pytest.mark.parametrize(
    ("name", "length"), [("max_position_embeddings", 64), ("max_seq_len", 48), ("n_positions", 32)]
)
def test_the_longest_text_under_any_name(name, length):
    lm = EditableModel.of(toy_llama(layers=1), toy_tokenizer())

    def longest(**config):
        lm.model.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(**config))
        return lm.max_length

    assert longest(**{name: length}) == length
    assert longest(**{name: None}) == longest(**{name: -1}) == longest() == 2**31


class PackedLinear(nn.Module):
    """A quantised layer as the field's packages make them."""

    def __init__(self, linear):
        super().__init__()
        self.register_buffer("weight", torch.zeros_like(linear.weight, dtype=torch.int8))
        self.inner = linear

    def forward(self, x):
        return self.inner(x)


class LoraLinear(nn.Linear):
    """An adapter that adds to what its weight does: editing the weight in place would be wrong."""

    def __init__(self, linear):
        super().__init__(linear.in_features, linear.out_features, bias=False, dtype=torch.float64)
        self.lora_A = nn.Linear(linear.in_features, 2, bias=False, dtype=torch.float64)
        self.lora_B = nn.Linear(2, linear.out_features, bias=False, dtype=torch.float64)

    def forward(self, x):
        return super().forward(x) + self.lora_B(self.lora_A(x))


def test_packed_weights():
    model = toy_llama(layers=2)
    model.model.layers[1].mlp.down_proj = PackedLinear(model.model.layers[1].mlp.down_proj)
    assert refusal(model) == (
        "block 1: model.layers.1.mlp.down_proj is a PackedLinear with int8 weights, which cannot be edited in place; "
        "load the model unquantised (float32, bfloat16 or float16) and without adapters (merge them first)"
    )


def test_adapters():
    model = toy_llama(layers=2)
    model.model.layers[0].mlp.down_proj = LoraLinear(model.model.layers[0].mlp.down_proj)
    assert refusal(model).startswith(
        "block 0: model.layers.0.mlp.down_proj is a LoraLinear with float64 weights, which cannot be edited"
    )


def test_no_blocks():
    model = toy_llama(layers=2)
    model.config.num_hidden_layers = 3
    assert refusal(model) == (
        "cannot find the transformer blocks of LlamaForCausalLM: no module list of 3 blocks; "
        "bluedit needs a decoder whose blocks are a torch.nn.ModuleList"
    )


def test_layers_out_of_range():
    anatomy = dissect(toy_llama())
    anatomy.check_layers([0, 4])
    with pytest.raises(ModelError) as caught:
        anatomy.check_layers([2, 5, -1])
    assert (
        str(caught.value)
        == "layers 5, -1 are out of range: this model has layers 0 to 4; set 'layers' to existing ones"
    )


def test_damaged_weights():
    lm = EditableModel.of(toy_gpt2(), toy_tokenizer(), "toy")
    lm.check_finite(range(5))
    lm.projection(3).matrix()[0, :2] = torch.tensor([torch.nan, torch.inf])
    lm.check_finite([0, 1])
    with pytest.raises(ModelError) as caught:
        lm.check_finite([1, 3])
    assert str(caught.value) == (
        "transformer.h.3.mlp.c_proj.weight holds 2 NaN or infinite values of 1536; the model is damaged, "
        "load it again from a sound checkpoint"
    )


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_earlier_tokens_are_given_by_the_name_the_model_has_for_them(name):
    lm = EditableModel.of(toy_llama(layers=1), toy_tokenizer())
    given = {}

    def old(past_key_values=None, use_cache=None):
        given.update(past_key_values=past_key_values, use_cache=use_cache)

    def new(cache=None, use_cache=None):
        given.update(cache=cache, use_cache=use_cache)

    lm.model.forward = new if name == "cache" else old
    lm.model(**lm.after("states"))
    assert given == {name: "states", "use_cache": True}


def test_names():
    assert EditableModel.of(toy_llama(layers=1), toy_tokenizer(), "mine").name == "mine"
    assert EditableModel.of(toy_llama(layers=1), toy_tokenizer()).name == "LlamaForCausalLM"


def test_weights_that_are_not_in_memory():
    model = toy_llama(layers=2)
    model.model.layers[1].mlp.to("meta")
    with pytest.raises(ModelError) as caught:
        EditableModel.of(model, toy_tokenizer())
    assert str(caught.value) == (
        "3 of the model's weights (model.layers.1.mlp.gate_proj.weight, ...) are not in memory: a device_map offloads them to the CPU or the "
        "disk, or they were never loaded; bluedit needs all of them in memory: give device_map devices that hold the whole model. "
        "A model too large for the GPUs can be edited on the CPU"
    )


def test_offloaded_weights():
    accelerate = pytest.importorskip("accelerate")
    model = accelerate.cpu_offload(toy_llama(layers=2), execution_device=torch.device("cpu"))
    with pytest.raises(ModelError, match="are not in memory: a device_map offloads them"):
        EditableModel.of(model, toy_tokenizer())


def test_a_device_map_of_one_device():
    accelerate = pytest.importorskip("accelerate")
    plain = EditableModel.of(toy_llama(layers=2), toy_tokenizer())
    model = accelerate.dispatch_model(toy_llama(layers=2), {"": "cpu"}, force_hooks=True)
    found = EditableModel.of(model, toy_tokenizer())
    assert [p.name for p in found.anatomy.projections] == [p.name for p in plain.anatomy.projections]


def test_experts_are_found_in_inner_configurations():
    model = toy_llama(layers=1)
    model.config.ffn_config = {"moe_num_experts": 4}
    model.model.layers[0].mlp.router = nn.Linear(32, 4, dtype=torch.float64)
    assert refusal(model).startswith("this model is a mixture of experts (moe_num_experts=4)")
