"""The projection of a block is its MLP's: token mixers are told apart by what they do, and the caller can name the projections."""

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertLMHeadModel,
    FalconH1Config,
    FalconH1ForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)

from bluedit.errors import ModelError
from bluedit.forward import runners
from bluedit.model.dissection import dissect
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Site
from bluedit.text.prompts import rows_of
from toys import FACTS, toy_gpt2, toy_llama, toy_tokenizer

SIZE = {"vocab_size": 432, "hidden_size": 32, "num_hidden_layers": 2}
HEADS = SIZE | {"num_attention_heads": 4, "intermediate_size": 48}
GROUPED = HEADS | {"num_key_value_heads": 2}
STATES = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}


def falcon_h1():
    """Attention and a state space model side by side, whose output map is wider than the MLP's."""
    return FalconH1ForCausalLM(FalconH1Config(**GROUPED, mamba_d_ssm=64, **STATES))


def names(anatomy):
    return [projection.name for projection in anatomy.projections]


@pytest.mark.parametrize(
    ("make", "pattern"),
    [
        (falcon_h1, "model.layers.{}.feed_forward.down_proj"),
        (
            lambda: Lfm2ForCausalLM(Lfm2Config(**GROUPED, layer_types=["conv", "full_attention"])),
            "model.layers.{}.feed_forward.w2",
        ),
        (lambda: BertLMHeadModel(BertConfig(**HEADS, is_decoder=True)), "bert.encoder.layer.{}.output.dense"),
    ],
    ids=["state space and attention", "convolution or attention", "no module for the MLP"],
)
def test_the_mlp_is_found_beside_other_mixers(make, pattern):
    torch.manual_seed(0)
    assert names(dissect(make().eval())) == [pattern.format(layer) for layer in range(2)]


@pytest.mark.parametrize(
    ("make", "kind", "mixer"),
    [
        (lambda: MambaForCausalLM(MambaConfig(**SIZE, state_size=4)), "MambaForCausalLM", "MambaMixer"),
        (
            lambda: Mamba2ForCausalLM(
                Mamba2Config(**SIZE, state_size=4, num_heads=8, head_dim=8, expand=2, n_groups=2, chunk_size=8)
            ),
            "Mamba2ForCausalLM",
            "Mamba2Mixer",
        ),
    ],
    ids=["mamba", "mamba2"],
)
def test_blocks_without_an_mlp_are_refused(make, kind, mixer):
    with pytest.raises(ModelError) as caught:
        EditableModel.of(make().eval(), toy_tokenizer())
    assert str(caught.value) == (
        f"block 0 of {kind} has no MLP that writes to the residual stream (found: backbone.layers.0.mixer.out_proj (64 -> 32), "
        f"part of the token mixer backbone.layers.0.mixer ({mixer})); bluedit edits the output projection of an MLP. "
        "Use a model whose blocks have one, or name the projections with anatomy="
    )


def test_a_block_with_no_linear_map_is_refused():
    model = toy_llama(layers=2)

    class Nothing(nn.Module):
        def forward(self, hidden_states, **_rest):
            return hidden_states

    model.model.layers[1] = Nothing()
    with pytest.raises(ModelError, match=r"^block 1 of LlamaForCausalLM has no MLP .*\(found: no linear map\)"):
        dissect(model)


class PerLayer(nn.Module):
    """A block with a narrow map after its MLP, as Gemma 3n's has."""

    def __init__(self, block):
        super().__init__()
        self.block, self.narrow = block, nn.Linear(8, 32, bias=False, dtype=torch.float64)

    def forward(self, *args, **kwargs):
        out = self.block(*args, **kwargs)
        return out + self.narrow(out[..., :8])


def test_narrow_maps_after_the_mlp_are_not_it():
    model = toy_llama(layers=2)
    model.model.layers[1] = PerLayer(model.model.layers[1])
    assert [projection.d_key for projection in dissect(model).projections] == [48, 48]


def test_the_attentions_map_is_not_the_mlps_however_wide():
    model = toy_llama(layers=2)
    for block in model.model.layers:
        block.mlp.gate_proj = block.mlp.up_proj = nn.Linear(32, 8, bias=False, dtype=torch.float64)
        block.mlp.down_proj = nn.Linear(8, 32, bias=False, dtype=torch.float64)
    assert all(projection.name.endswith("mlp.down_proj") for projection in dissect(model).projections)


# named by the caller


@pytest.mark.parametrize("given", ["model.layers.{}.mlp.up_proj", [f"model.layers.{i}.mlp.up_proj" for i in range(3)]])
def test_the_caller_names_the_projections(given):
    """Two square maps, the wrong one of which would be found."""
    model = toy_llama(square=True, layers=3)
    assert names(dissect(model))[0] == "model.layers.0.mlp.down_proj"
    lm = EditableModel.of(model, toy_tokenizer(), anatomy=given)
    assert names(lm.anatomy) == [f"model.layers.{i}.mlp.up_proj" for i in range(3)]
    assert not lm.anatomy.additive
    assert EditableModel.of(model, toy_tokenizer(), anatomy=lm.anatomy).anatomy is lm.anatomy


def test_a_pattern_also_says_what_the_blocks_are():
    model = toy_gpt2(layers=3)
    model.config.n_layer = 7
    with pytest.raises(ModelError, match="no module list of 7 blocks"):
        dissect(model)
    anatomy = dissect(model, "transformer.h.{}.mlp.c_proj")
    assert anatomy.n_layers == 3 and anatomy.additive


def test_a_token_mixer_can_be_named():
    """The caller may know better; targets are then found by the reference forward, since there are no attention keys to keep."""
    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(**SIZE, state_size=4)).eval()
    lm = EditableModel.of(model, toy_tokenizer(), anatomy="backbone.layers.{}.mixer.out_proj")
    assert lm.anatomy.additive and lm.d_key == 64
    rows = rows_of(lm.tokenizer, FACTS, ())
    runner = runners(lm, rows, [Site("block", 1)])(rows)
    assert torch.isfinite(runner.logits(runner.values * 0.1)).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "model.layers.0.mlp.down_proj",
            "the anatomy 'model.layers.0.mlp.down_proj' needs one {} in place of the block's number, as in 'model.layers.{}.mlp.down_proj'",
        ),
        ("decoder.{}.fc2", "this model has no block decoder.0, which the anatomy 'decoder.{}.fc2' asks for"),
        (
            "model.layers.{}.mlp.down_porj",
            "anatomy names the projection 'model.layers.0.mlp.down_porj', which this model does not have; did you mean "
            "'model.layers.0.mlp.down_proj' or 'model.layers.1.mlp.down_proj' or 'model.layers.0.mlp.up_proj'?",
        ),
        (["model.layers.0.mlp.down_proj"], "anatomy names 1 projections, but the model has 2 blocks; name one each"),
        (
            ["model.layers.1.mlp.down_proj", "model.layers.0.mlp.down_proj"],
            "anatomy names 'model.layers.1.mlp.down_proj' for block 0, but it is not in that block; name them in order of the blocks",
        ),
        (
            "model.layers.{}.mlp.up_proj",
            "anatomy names 'model.layers.0.mlp.up_proj' for block 0, which is not a linear map that writes to the residual "
            "stream (width 32)",
        ),
        (
            "model.layers.{}.input_layernorm",
            "anatomy names 'model.layers.0.input_layernorm' for block 0, which is not a linear map that writes to the residual "
            "stream (width 32)",
        ),
    ],
)
def test_names_that_cannot_be(given, message):
    with pytest.raises(ModelError) as caught:
        EditableModel.of(toy_llama(layers=2), toy_tokenizer(), anatomy=given)
    assert str(caught.value) == message
