"""Tiny random models of well-known architectures, each with a batch: the rows of docs/architectures.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

#: How many real tokens each sample of text has, and the longest.
LENGTHS, WIDTH = (12, 7, 9, 5, 10, 12), 12
VOCABULARY = 99
#: What most configurations call their sizes.
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "pad_token_id": 1,
}
GROUPED = {**SMALL, "num_key_value_heads": 2}
EXPERTS = {**GROUPED, "moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2, "num_local_experts": 4}
BART = {
    "vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "pad_token_id": 1,
    "max_position_embeddings": 128,
}  # fmt: skip
T5 = {
    "vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2,
    "num_heads": 4, "pad_token_id": 0,
}  # fmt: skip
VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
       "image_size": 32, "patch_size": 8}  # fmt: skip
WAVE = {
    **SMALL, "conv_dim": (16, 16), "conv_kernel": (8, 4), "conv_stride": (4, 2), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip

Inputs = Callable[[], dict[str, Tensor]]


def text(pad: int = 1) -> dict[str, Tensor]:
    """Tokens, padded on the right."""
    ids = torch.randint(5, VOCABULARY - 5, (len(LENGTHS), WIDTH))
    mask = torch.arange(WIDTH) < torch.tensor(LENGTHS)[:, None]
    return {"input_ids": ids.masked_fill(~mask, pad), "attention_mask": mask.long()}


def text_pairs() -> dict[str, Tensor]:
    """Tokens, and those of a decoder, all of one length."""
    return {**text(), "decoder_input_ids": torch.randint(5, VOCABULARY - 5, (len(LENGTHS), 6))}


def images() -> dict[str, Tensor]:
    """Pictures of one size."""
    return {"pixel_values": torch.randn(len(LENGTHS), 3, 32, 32)}


def waves() -> dict[str, Tensor]:
    """Sound, padded on the right with silence."""
    mask = torch.arange(40 * WIDTH) < 40 * torch.tensor(LENGTHS)[:, None]
    return {"input_values": torch.randn(mask.shape).masked_fill(~mask, 0.0), "attention_mask": mask.long()}


@dataclass(frozen=True)
class Architecture:
    """A row of the table.

    Attributes:
        group: The heading that it stands under.
        name: The class of the model.
        config: The class of its configuration; empty for a model written here.
        sizes: What makes it small.
        inputs: Its batch.
        more: What every call is given besides.
        variant: What tells it from another of its class.
    """

    group: str
    name: str
    config: str = ""
    sizes: dict[str, Any] = field(default_factory=dict)
    inputs: Inputs = text
    more: dict[str, Any] = field(default_factory=dict)
    variant: str = ""

    @property
    def title(self) -> str:
        """Its name in the table."""
        return f"{self.name}, {self.variant}" if self.variant else self.name

    def build(self) -> tuple[nn.Module, dict[str, Any]]:
        """The model, in eval mode and with random weights that are always the same, and what it is called with."""
        import transformers

        torch.manual_seed(0)
        if not self.config:
            model = HAND_WRITTEN[self.name]()
        else:
            model = getattr(transformers, self.name)(getattr(transformers, self.config)(**self.sizes))
        return model.eval(), {**self.inputs(), **self.more}


class BasicBlock(nn.Module):
    """torchvision's ResNet block, by hand."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Two convolutions around which the input goes."""
        inner = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(inner)) + x).relu()


class ResNetByHand(nn.Module):
    """A stem, two blocks, a mean over places, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.blocks = nn.Sequential(BasicBlock(8), BasicBlock(8))
        self.fc = nn.Linear(8, 10)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """The scores of ten classes."""
        return self.fc(self.blocks(self.stem(pixel_values)).mean((2, 3)))


class MobileNetByHand(nn.Module):
    """torchvision's inverted residual with squeeze-and-excitation, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(3, 16, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.depthwise = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16), nn.Hardswish()
        )
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1))
        self.project = nn.Sequential(nn.Conv2d(16, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(8, 10))

    def forward(self, pixel_values: Tensor) -> Tensor:
        """The scores of ten classes."""
        inner = self.depthwise(self.expand(pixel_values))
        return self.classifier(self.project(inner * self.squeeze(inner).sigmoid()))


class DenseNetByHand(nn.Module):
    """torchvision's dense layers, by hand: each sees all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(3 + 4 * i), nn.ReLU(), nn.Conv2d(3 + 4 * i, 4, 3, padding=1)) for i in range(3)
        )
        self.classifier = nn.Linear(15, 10)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """The scores of ten classes."""
        found = pixel_values
        for layer in self.layers:
            found = torch.cat([found, layer(found)], 1)
        return self.classifier(found.relu().mean((2, 3)))


HAND_WRITTEN: dict[str, Callable[[], nn.Module]] = {
    "ResNetByHand": ResNetByHand,
    "MobileNetByHand": MobileNetByHand,
    "DenseNetByHand": DenseNetByHand,
}


def _encoders() -> list[Architecture]:
    g = "Encoders"
    long = {**SMALL, "max_position_embeddings": 128}
    return [
        Architecture(g, "BertModel", "BertConfig", SMALL),
        Architecture(g, "RobertaModel", "RobertaConfig", long),
        Architecture(g, "XLMRobertaModel", "XLMRobertaConfig", long),
        Architecture(g, "CamembertModel", "CamembertConfig", long),
        Architecture(
            g, "DistilBertModel", "DistilBertConfig",
            {"vocab_size": VOCABULARY, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "pad_token_id": 1},
        ),
        Architecture(g, "AlbertModel", "AlbertConfig", {**SMALL, "embedding_size": 16}),
        Architecture(g, "ElectraModel", "ElectraConfig", {**SMALL, "embedding_size": 16}),
        Architecture(
            g, "DebertaV2Model", "DebertaV2Config",
            {**SMALL, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8},
        ),
        Architecture(g, "ModernBertModel", "ModernBertConfig", {**SMALL, "local_attention": 8}),
        Architecture(g, "MPNetModel", "MPNetConfig", long),
        Architecture(
            g, "FunnelModel", "FunnelConfig",
            {"vocab_size": VOCABULARY, "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 64, "block_sizes": [1, 1],
             "num_decoder_layers": 1},
        ),
        Architecture(g, "BigBirdModel", "BigBirdConfig", {**SMALL, "attention_type": "original_full"}),
        Architecture(g, "LongformerModel", "LongformerConfig", {**long, "attention_window": 4}),
        Architecture(g, "RoFormerModel", "RoFormerConfig", SMALL),
        Architecture(
            g, "XLNetModel", "XLNetConfig",
            {"vocab_size": VOCABULARY, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
            more={"use_mems": False},
        ),
        Architecture(g, "ConvBertModel", "ConvBertConfig", {**SMALL, "embedding_size": 32}),
        Architecture(g, "SqueezeBertModel", "SqueezeBertConfig", {**SMALL, "embedding_size": 32}),
        Architecture(g, "FNetModel", "FNetConfig", {**SMALL, "tpu_short_seq_length": 12}),
        Architecture(g, "YosoModel", "YosoConfig", {**SMALL, "use_expectation": True}),
        Architecture(g, "EsmModel", "EsmConfig", {**long, "mask_token_id": 2}),
        Architecture(g, "MegatronBertModel", "MegatronBertConfig", SMALL),
        Architecture(g, "RobertaForSequenceClassification", "RobertaConfig", long),
    ]  # fmt: skip


def _decoders() -> list[Architecture]:
    g = "Decoders"
    neo = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 64,
           "attention_types": [[["global", "local"], 1]], "window_size": 4, "max_position_embeddings": 128}  # fmt: skip
    return [
        Architecture(
            g, "GPT2LMHeadModel", "GPT2Config",
            {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
        ),
        Architecture(g, "GPTNeoForCausalLM", "GPTNeoConfig", neo),
        Architecture(g, "GPTNeoXForCausalLM", "GPTNeoXConfig", SMALL),
        Architecture(
            g, "GPTJForCausalLM", "GPTJConfig",
            {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "rotary_dim": 4},
        ),
        Architecture(
            g, "OPTForCausalLM", "OPTConfig",
            {**SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 128},
        ),
        Architecture(
            g, "BloomForCausalLM", "BloomConfig",
            {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4},
        ),
        Architecture(g, "LlamaForCausalLM", "LlamaConfig", GROUPED),
        Architecture(g, "MistralForCausalLM", "MistralConfig", {**GROUPED, "sliding_window": 6}),
        Architecture(g, "Qwen2ForCausalLM", "Qwen2Config", GROUPED),
        Architecture(g, "Qwen3ForCausalLM", "Qwen3Config", {**GROUPED, "head_dim": 8}),
        Architecture(g, "Gemma2ForCausalLM", "Gemma2Config", {**GROUPED, "head_dim": 8, "sliding_window": 6}),
        Architecture(g, "Gemma3ForCausalLM", "Gemma3TextConfig", {**GROUPED, "head_dim": 8, "sliding_window": 6}),
        Architecture(g, "PhiForCausalLM", "PhiConfig", SMALL),
        Architecture(g, "Phi3ForCausalLM", "Phi3Config", GROUPED),
        Architecture(
            g, "FalconForCausalLM", "FalconConfig",
            {**SMALL, "alibi": False},
        ),
        Architecture(
            g, "MptForCausalLM", "MptConfig",
            {"vocab_size": VOCABULARY, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 128},
        ),
        Architecture(g, "StableLmForCausalLM", "StableLmConfig", GROUPED),
        Architecture(g, "Olmo2ForCausalLM", "Olmo2Config", GROUPED),
        Architecture(g, "GraniteForCausalLM", "GraniteConfig", GROUPED),
        Architecture(g, "CohereForCausalLM", "CohereConfig", GROUPED),
        Architecture(
            g, "XGLMForCausalLM", "XGLMConfig",
            {"vocab_size": VOCABULARY, "d_model": 32, "ffn_dim": 64, "num_layers": 2, "attention_heads": 4,
             "max_position_embeddings": 128},
        ),
    ]  # fmt: skip


def _recurrent() -> list[Architecture]:
    g = "State spaces and recurrence"
    mamba = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "pad_token_id": 1}
    return [
        Architecture(g, "MambaForCausalLM", "MambaConfig", mamba),
        Architecture(
            g, "Mamba2ForCausalLM", "Mamba2Config",
            {**mamba, "num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 8},
        ),
        Architecture(g, "FalconMambaForCausalLM", "FalconMambaConfig", mamba),
        Architecture(g, "RwkvForCausalLM", "RwkvConfig", {**SMALL, "attention_hidden_size": 32, "context_length": 128}),
        Architecture(
            g, "RecurrentGemmaForCausalLM", "RecurrentGemmaConfig",
            {**SMALL, "num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 8, "head_dim": 8},
        ),
        Architecture(
            g, "JambaForCausalLM", "JambaConfig",
            {**EXPERTS, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
             "expert_layer_offset": 1, "use_mamba_kernels": False, "mamba_d_state": 8, "mamba_dt_rank": 4},
        ),
    ]  # fmt: skip


def _mixtures() -> list[Architecture]:
    g = "Mixtures of experts"
    deepseek = {**EXPERTS, "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 2, "topk_group": 1,
                "n_shared_experts": 1,
                "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8,
                "first_k_dense_replace": 1}  # fmt: skip
    return [
        Architecture(g, "MixtralForCausalLM", "MixtralConfig", EXPERTS),
        Architecture(g, "Qwen2MoeForCausalLM", "Qwen2MoeConfig", {**EXPERTS, "shared_expert_intermediate_size": 32}),
        Architecture(g, "Qwen3MoeForCausalLM", "Qwen3MoeConfig", {**EXPERTS, "head_dim": 8}),
        Architecture(g, "OlmoeForCausalLM", "OlmoeConfig", EXPERTS),
        Architecture(g, "DeepseekV3ForCausalLM", "DeepseekV3Config", deepseek),
        Architecture(g, "PhimoeForCausalLM", "PhimoeConfig", {**EXPERTS, "bos_token_id": 2, "eos_token_id": 3}),
        Architecture(g, "GptOssForCausalLM", "GptOssConfig", {**EXPERTS, "head_dim": 8, "sliding_window": 6}),
        Architecture(
            g, "SwitchTransformersModel", "SwitchTransformersConfig",
            {**T5, "num_experts": 4, "expert_capacity": 8, "num_sparse_encoder_layers": 1,
             "num_sparse_decoder_layers": 1}, text_pairs,
        ),
        Architecture(
            g, "NllbMoeModel", "NllbMoeConfig",
            {**BART, "num_experts": 4, "expert_capacity": 8, "encoder_sparse_step": 2, "decoder_sparse_step": 2},
            text_pairs,
        ),
    ]  # fmt: skip


def _pairs() -> list[Architecture]:
    g = "Encoder and decoder"
    return [
        Architecture(g, "T5ForConditionalGeneration", "T5Config", T5, text_pairs),
        Architecture(g, "BartForConditionalGeneration", "BartConfig", BART, text_pairs),
        Architecture(g, "MBartForConditionalGeneration", "MBartConfig", BART, text_pairs),
        Architecture(g, "PegasusForConditionalGeneration", "PegasusConfig", BART, text_pairs),
        Architecture(g, "MarianMTModel", "MarianConfig", {**BART, "decoder_start_token_id": 1}, text_pairs),
        Architecture(g, "M2M100ForConditionalGeneration", "M2M100Config", BART, text_pairs),
        Architecture(
            g, "LEDForConditionalGeneration", "LEDConfig",
            {**BART, "attention_window": 4, "max_encoder_position_embeddings": 128,
             "max_decoder_position_embeddings": 128}, text_pairs,
        ),
        Architecture(
            g, "ProphetNetForConditionalGeneration", "ProphetNetConfig",
            {"vocab_size": VOCABULARY, "hidden_size": 32, "num_encoder_layers": 2, "num_decoder_layers": 2,
             "num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4, "encoder_ffn_dim": 64,
             "decoder_ffn_dim": 64, "pad_token_id": 1}, text_pairs,
        ),
    ]  # fmt: skip


def _vision() -> list[Architecture]:
    g = "Vision"
    resnet = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    swin = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4}
    segformer = {"num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "hidden_sizes": [8, 16],
                 "patch_sizes": [7, 3], "strides": [4, 2], "num_attention_heads": [2, 2], "mlp_ratios": [2, 2],
                 "decoder_hidden_size": 16}  # fmt: skip
    tower = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    clip = {
        "text_config": {**tower, "vocab_size": VOCABULARY, "eos_token_id": 2, "max_position_embeddings": 128},
        "vision_config": {**tower, "image_size": 32, "patch_size": 8}, "projection_dim": 16,
    }  # fmt: skip
    return [
        Architecture(g, "ViTForImageClassification", "ViTConfig", VIT, images),
        Architecture(g, "DeiTForImageClassification", "DeiTConfig", VIT, images),
        Architecture(g, "BeitForImageClassification", "BeitConfig", VIT, images),
        Architecture(g, "Dinov2Model", "Dinov2Config", VIT, images),
        Architecture(g, "SwinForImageClassification", "SwinConfig", swin, images),
        Architecture(
            g, "ConvNextForImageClassification", "ConvNextConfig",
            {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}, images,
        ),
        Architecture(g, "ResNetForImageClassification", "ResNetConfig", resnet, images),
        Architecture(g, "SegformerForSemanticSegmentation", "SegformerConfig", segformer, images),
        Architecture(g, "MobileNetV2ForImageClassification", "MobileNetV2Config", {"depth_multiplier": 0.25}, images),
        Architecture(g, "CLIPVisionModel", "CLIPVisionConfig", {**tower, "image_size": 32, "patch_size": 8}, images),
        Architecture(g, "CLIPTextModel", "CLIPTextConfig", clip["text_config"]),
        Architecture(g, "CLIPModel", "CLIPConfig", clip, lambda: {**text(), **images()}),
        Architecture(g, "ResNetByHand", inputs=images),
        Architecture(g, "MobileNetByHand", inputs=images),
        Architecture(g, "DenseNetByHand", inputs=images),
    ]  # fmt: skip


def _audio() -> list[Architecture]:
    g = "Audio"
    speech = {**BART, "input_feat_per_channel": 8, "conv_channels": 16, "conv_kernel_sizes": [3, 3],
              "max_source_positions": 200, "max_target_positions": 64, "num_conv_layers": 2}  # fmt: skip
    whisper = {**BART, "num_mel_bins": 8, "max_source_positions": 24, "max_target_positions": 64, "bos_token_id": 2,
               "eos_token_id": 3, "decoder_start_token_id": 2}  # fmt: skip
    return [
        Architecture(
            g, "Wav2Vec2Model", "Wav2Vec2Config", {**WAVE, "feat_extract_norm": "layer"}, waves, variant="layer norm"
        ),
        Architecture(
            g, "Wav2Vec2Model", "Wav2Vec2Config", {**WAVE, "feat_extract_norm": "group"}, waves, variant="group norm"
        ),
        Architecture(g, "HubertModel", "HubertConfig", {**WAVE, "feat_extract_norm": "layer"}, waves),
        Architecture(g, "WavLMModel", "WavLMConfig", {**WAVE, "feat_extract_norm": "layer"}, waves),
        Architecture(g, "WhisperForConditionalGeneration", "WhisperConfig", whisper, _spectra),
        Architecture(g, "Speech2TextForConditionalGeneration", "Speech2TextConfig", speech, _frames),
        Architecture(
            g, "ASTForAudioClassification", "ASTConfig",
            {**SMALL, "max_length": 48, "num_mel_bins": 16, "patch_size": 8, "frequency_stride": 8, "time_stride": 8},
            lambda: {"input_values": torch.randn(6, 48, 16)},
        ),
    ]  # fmt: skip


def _spectra() -> dict[str, Tensor]:
    return {"input_features": torch.randn(6, 8, 48), "decoder_input_ids": torch.randint(5, 90, (6, 6))}


def _frames() -> dict[str, Tensor]:
    mask = torch.arange(4 * WIDTH) < 4 * torch.tensor(LENGTHS)[:, None]
    features = torch.randn(*mask.shape, 8).masked_fill(~mask[..., None], 0.0)
    return {
        "input_features": features, "attention_mask": mask.long(), "decoder_input_ids": torch.randint(5, 90, (6, 6)),
    }  # fmt: skip


#: What was found when a fault was looked into.
REMARKS: dict[str, str] = {
    "FunnelModel": "Real, and by design: tokens are pooled in pairs, and the last one of a row is left out"
    " (`truncate_seq`). Where padding follows, the last token shares its pair with padding, and is not left out.",
    "ConvBertModel": "Real: the convolution beside its attention is given no mask, so padding reaches the last tokens"
    " of a sample (kernel 9: four of them in each layer).",
    "FNetModel": "Real, and by design: it takes no mask at all, and its Fourier transform mixes all positions.",
    "YosoModel": "A mistake in transformers: the attention reads a mask of 0 and -10,000 (`1.0 + attention_mask /"
    " 10000.0`, then `int()`) and is given one of 1 and 0, of which it makes 1 everywhere: padding is never masked.",
    "RwkvForCausalLM": "Real: it accepts an `attention_mask` and does not use it, so padding on the left goes through"
    " the recurrence. Padding on the right is safe.",
    "RecurrentGemmaForCausalLM": "Real: its recurrence starts again where positions do, but the convolution before it"
    " does not, so the end of the sample before is seen by the first tokens of the next.",
    "JambaForCausalLM": "Real: its attention tells packed samples apart, its Mamba layers do not: convolution and"
    " state go on from the sample before.",
    "SwitchTransformersModel": "Real: an expert takes `expert_capacity` tokens of a row, counted from its left, padding"
    " too; those behind are dropped. Neither the rest of the batch nor padding on the right counts.",
    "CLIPModel": "By design: `logits_per_text` holds each text's similarity to every image of the batch. The"
    " embeddings are safe.",
    "Wav2Vec2Model, group norm": "Real, and documented: the first layer's group norm runs over time, so padding changes"
    " its statistics, whatever the mask says.",
}

ARCHITECTURES: tuple[Architecture, ...] = (
    *_encoders(), *_decoders(), *_recurrent(), *_mixtures(), *_pairs(), *_vision(), *_audio(),
)  # fmt: skip
