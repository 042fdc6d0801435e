"""The table of model families: a toy of transformers' own class for each, and what bluedit does with it.

`docs/models.md` is made from this table by `tools/models.py`; the tests of models verify each entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    PreTrainedModel,
)

METHODS = ("memit-seq", "memit-seq-blue", "alphaedit-blue", "rome", "rect-blue")  # of the matrix
SIZE = {
    "vocab_size": 432,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
_LINEAR = {
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}
_MAMBA = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_d_ssm": 64,
    "mamba_expand": 2,
    "mamba_chunk_size": 8,
}
_LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "head_dim": 4,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}
_SLIDING = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "sliding_window": 8}
_SHARED = {  # the last layer uses the keys and values of the one before it
    "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    "sliding_window": 8,
    "num_kv_shared_layers": 1,
}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}


@dataclass(frozen=True)
class Family:
    """One family of models.

    Attributes:
        kind: transformers' `model_type`.
        about: models of this family, for the page.
        options: of the toy's configuration, besides SIZE.
        path: layout in which targets are optimised: "Packed", "Padded" or "Reference".
        sampled: how text is sampled: "Growing", "Own" or "Whole".
        spread: whether recipes that distribute residuals work.
        scale: what a block multiplies its MLP's output by.
        refused: beginning of the message where the family is refused; `why` says it on the page.
        vision: a vision-language model, whose language model is edited.
        note: for the page.
        variant: tells families of one kind apart.
        nested: names of the configurations inside the toy's, with their options.
    """

    kind: str
    about: str
    options: Mapping[str, Any] = field(default_factory=dict)
    path: str = "Packed"
    sampled: str = "Growing"
    spread: bool = True
    scale: float = 1.0
    refused: str = ""
    why: str = ""
    vision: bool = False
    note: str = ""
    variant: str = ""
    nested: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.kind} {self.variant}".strip()

    @property
    def known(self) -> bool:
        """Whether the transformers that is installed has this family."""
        return self.kind in CONFIG_MAPPING

    def make(self, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
        """A toy with random weights."""
        torch.manual_seed(0)
        if self.vision:
            config = AutoConfig.for_model(self.kind, **self.options, **{k: dict(v) for k, v in self.nested.items()})
            table: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        else:
            options = {**SIZE, **self.options}
            config = AutoConfig.for_model(self.kind, **{k: v for k, v in options.items() if v is not None})
            table = MODEL_FOR_CAUSAL_LM_MAPPING
        model = table[type(config)](config).to(dtype).eval()
        for weight in model.parameters():
            if weight.dim() > 1 and not weight.any():  # some families start with gates that let nothing through
                torch.nn.init.normal_(weight, std=0.3)
        return model


_NO_MLP = "its blocks are state-space mixers without an MLP"
_EXPERTS = "mixture of experts: a fact has no single projection"
_POST = {"spread": False}

FAMILIES = [
    Family("llama", "Llama 1 to 3.3, TinyLlama, SmolLM 1 and 2, Yi, Vicuna, DeepSeek-LLM, InternLM 3"),
    Family("mistral", "Mistral 7B, Mistral Nemo", {"sliding_window": 16}),
    Family("ministral", "Ministral 8B", _SLIDING),
    Family("ministral3", "Ministral 3"),
    Family("qwen2", "Qwen 1.5, 2 and 2.5"),
    Family("qwen3", "Qwen 3 (dense)"),
    Family("gemma", "Gemma 1"),
    Family("gemma2", "Gemma 2", _SLIDING, **_POST),
    Family("gemma3_text", "Gemma 3 (text)", _SLIDING, **_POST),
    Family(
        "gemma3n_text",
        "Gemma 3n (text)",
        {
            **_SHARED,
            "vocab_size_per_layer_input": 432,
            "hidden_size_per_layer_input": 8,
            "altup_num_inputs": 2,
            "laurel_rank": 4,
            "activation_sparsity_pattern": [0.0] * 3,
        },
        path="Padded",
        **_POST,
    ),
    Family(
        "gemma4_text",
        "Gemma 4 (text, dense)",
        {
            **_SHARED,
            "vocab_size_per_layer_input": 432,
            "hidden_size_per_layer_input": 8,
            "global_head_dim": 8,
        },
        path="Padded",
        **_POST,
    ),
    Family("vaultgemma", "VaultGemma", _SLIDING),
    Family("gpt2", "GPT-2, GPT-2 XL, DistilGPT-2"),
    Family(
        "gpt_neo", "GPT-Neo", {"num_layers": 3, "attention_types": [[["global", "local", "global"], 1]]}, path="Padded"
    ),
    Family("gptj", "GPT-J", {"rotary_dim": 4}),
    Family("gpt_neox", "Pythia, GPT-NeoX"),
    Family("gpt_bigcode", "StarCoder 1, SantaCoder"),
    Family("starcoder2", "StarCoder 2"),
    Family("codegen", "CodeGen", {"rotary_dim": 4}),
    Family("openai-gpt", "GPT 1", path="Reference", sampled="Whole", note="has no cache", **_POST),
    Family("ctrl", "CTRL", {"dff": 48, "n_positions": 256}),
    Family("bloom", "BLOOM", path="Padded"),
    Family(
        "mpt",
        "MPT",
        {"d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 256, "max_position_embeddings": None},
        path="Padded",
    ),
    Family("falcon", "Falcon 7B and 40B", {"head_dim": None}, path="Padded"),
    Family(
        "falcon",
        "Falcon RW",
        {"head_dim": None, "alibi": True},
        path="Reference",
        variant="alibi",
        note="eager and fused attention of transformers differ",
    ),
    Family("opt", "OPT, Galactica", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    Family("xglm", "XGLM", {"ffn_dim": 48, "attention_heads": 4, "num_layers": 3, "d_model": 32}, path="Padded"),
    Family("biogpt", "BioGPT"),
    Family("phi", "Phi 1, 1.5 and 2"),
    Family("phi3", "Phi 3, 3.5 and 4"),
    Family("persimmon", "Persimmon"),
    Family("stablelm", "StableLM 2, with normalised queries and keys", {"qk_layernorm": True}),
    Family("nemotron", "Nemotron 3 and 4, Minitron"),
    Family("cohere", "Command R", {"logit_scale": 1.0}),
    Family("cohere2", "Command R7B, Command A", {**_SLIDING, "logit_scale": 1.0}),
    Family("olmo", "OLMo 1"),
    Family("olmo2", "OLMo 2", **_POST),
    Family("olmo3", "OLMo 3", _SLIDING, **_POST),
    Family("glm", "GLM-4 9B", {"partial_rotary_factor": 0.5}),
    Family("glm4", "GLM-4-0414", {"partial_rotary_factor": 0.5}, **_POST),
    Family("exaone4", "EXAONE 4", _SLIDING, **_POST),
    Family("granite", "Granite 3 and 4 (dense)", {"residual_multiplier": 0.22}, scale=0.22),
    Family("minicpm3", "MiniCPM 3", {**_LATENT, "scale_depth": 1.4}, path="Padded", scale=0.808),
    Family("smollm3", "SmolLM 3"),
    Family("helium", "Helium"),
    Family("arcee", "AFM 4.5B"),
    Family("apertus", "Apertus"),
    Family("ernie4_5", "ERNIE 4.5 (dense)"),
    Family("hunyuan_v1_dense", "Hunyuan (dense)"),
    Family("seed_oss", "Seed-OSS"),
    Family("jais2", "Jais 2"),
    Family("nanochat", "nanochat"),
    Family("diffllama", "DiffLlama", path="Padded"),
    Family("bitnet", "BitNet b1.58"),
    Family("youtu", "Youtu-LLM (latent attention)", _LATENT, path="Padded"),
    Family("deepseek_v3", "DeepSeek 3 with dense layers only", {**_LATENT, "first_k_dense_replace": 3}, path="Padded"),
    Family("modernbert-decoder", "Ettin decoders", {"global_attn_every_n_layers": 2, "local_attention": 64}),
    Family("bert", "BERT trained as a decoder", {"is_decoder": True}, **_POST),
    Family(
        "qwen3_next", "Qwen 3 Next, without experts", {**_LINEAR, "num_experts": 0}, path="Reference", sampled="Own"
    ),
    Family("qwen3_5_text", "Qwen 3.5 (dense)", _LINEAR, path="Reference", sampled="Own"),
    Family("olmo_hybrid", "OLMo Hybrid", _LINEAR, path="Reference", sampled="Own", **_POST),
    Family(
        "lfm2",
        "LFM 2 (dense)",
        {"layer_types": ["conv", "full_attention", "conv"], "block_auto_adjust_ff_dim": False},
        path="Reference",
        sampled="Own",
    ),
    Family("falcon_h1", "Falcon H1", _MAMBA, path="Reference", sampled="Own"),
    Family(
        "bamba",
        "Bamba",
        {**_MAMBA, "attn_layer_indices": [1]},
        path="Reference",
        sampled="Whole",
        note="with its cache, transformers 5.24 gives other logits",
    ),
    Family(
        "granitemoehybrid",
        "Granite 4 H (dense)",
        {
            **_MAMBA,
            "layer_types": ["mamba", "attention", "mamba"],
            "num_local_experts": 0,
            "shared_intermediate_size": 48,
        },
        path="Reference",
        sampled="Own",
    ),
    Family(
        "recurrent_gemma",
        "RecurrentGemma",
        {"lru_width": 32, "block_types": ["recurrent", "attention"]},
        path="Reference",
        sampled="Whole",
    ),
    Family(
        "xlstm",
        "xLSTM 7B",
        {"head_dim": None, "num_heads": 4, "embedding_dim": 32, "num_blocks": 3, "chunk_size": 8},
        path="Reference",
        sampled="Whole",
    ),
    Family("mamba", "Mamba", {"state_size": 8}, refused="block 0 of MambaForCausalLM has no MLP", why=_NO_MLP),
    Family(
        "mamba2",
        "Mamba 2, Codestral Mamba",
        {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1, "chunk_size": 8},
        refused="block 0 of Mamba2ForCausalLM has no MLP",
        why=_NO_MLP,
    ),
    Family(
        "zamba2",
        "Zamba 2",
        {
            "mamba_d_state": 8,
            "mamba_headdim": 8,
            "n_mamba_heads": 8,
            "mamba_ngroups": 1,
            "chunk_size": 8,
            "layers_block_type": ["mamba", "hybrid", "mamba"],
            "hybrid_layer_ids": [1],
            "num_mem_blocks": 1,
            "adapter_rank": 4,
        },
        refused="block 0 of Zamba2ForCausalLM has no MLP",
        why="most blocks have no MLP, and the others share one",
    ),
    Family(
        "rwkv",
        "RWKV 4",
        {"attention_hidden_size": 32, "context_length": 256},
        refused="block 0 of RwkvForCausalLM has no MLP",
        why="its channel mixer mixes tokens and gates its own output",
    ),
    Family("mixtral", "Mixtral", {"num_local_experts": 3}, refused="this model is a mixture of experts", why=_EXPERTS),
    Family(
        "lfm2_moe",
        "LFM 2 with experts",
        {"layer_types": ["conv", "full_attention", "conv"], "num_experts": 4, "num_dense_layers": 1},
        refused="this model is a mixture of experts",
        why=_EXPERTS,
    ),
    Family(
        "dbrx",
        "DBRX",
        {
            "d_model": 32,
            "n_heads": 4,
            "n_layers": 3,
            "ffn_config": {"ffn_hidden_size": 48},
            "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0},
        },
        refused="this model is a mixture of experts",
        why=_EXPERTS,
    ),
    Family(
        "roberta",
        "BERT-like encoders",
        refused="RobertaForCausalLM is not causal",
        why="a later token changes the state of an earlier one",
    ),
    Family(
        "xlnet",
        "XLNet",
        {"d_inner": 48, "d_head": 8, "max_position_embeddings": None},
        refused="XLNetLMHeadModel is not causal",
        why="a later token changes the state of an earlier one",
    ),
    Family(
        "gemma3",
        "Gemma 3 with images",
        vision=True,
        nested={"text_config": {**SIZE, **_SLIDING}, "vision_config": _VISION},
        options={"mm_tokens_per_image": 4, "image_token_index": 431},
        **_POST,
    ),
    Family(
        "llava",
        "LLaVA",
        vision=True,
        nested={
            "text_config": {**SIZE, "model_type": "llama"},
            "vision_config": {**_VISION, "model_type": "clip_vision_model"},
        },
        options={"image_token_index": 431},
    ),
    Family(
        "qwen2_vl",
        "Qwen 2 VL",
        vision=True,
        nested={
            "text_config": {**SIZE, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
            "vision_config": {"depth": 1, "embed_dim": 16, "num_heads": 2, "hidden_size": 32, "patch_size": 8},
        },
        options={
            "image_token_id": 431,
            "video_token_id": 430,
            "vision_start_token_id": 429,
            "vision_end_token_id": 428,
        },
    ),
    Family(
        "mistral3",
        "Mistral Small 3.1",
        vision=True,
        nested={
            "text_config": {**SIZE, "model_type": "mistral"},
            "vision_config": {**_VISION, "model_type": "pixtral", "head_dim": 8},
        },
        options={"image_token_index": 431},
    ),
]
