"""Language models of a few thousand weights with a tokenizer of whole words, on disk as transformers wants them, for lookahead tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedTokenizerFast,
)

from foresail_router.data.answers import Answers
from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.data.records import Prompt
from foresail_router.lookahead.examples import Example
from foresail_router.lookahead.recipe import Recipe

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[unused1]", "[unused2]", "[unused3]"]
WORDS = [*SPECIAL, *(f"w{number}" for number in range(40)), "even", "odd", "yes", "no"]


def save_backbone(directory: Path, kind: str) -> Path:
    """Write a tiny `llama`, `bert` or `modernbert` with its tokenizer, and return the directory."""
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(directory)
    torch.manual_seed(5)
    sizes = {"vocab_size": len(WORDS), "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    if kind == "llama":
        LlamaForCausalLM(
            LlamaConfig(**sizes, num_hidden_layers=3, num_key_value_heads=1, pad_token_id=0, initializer_range=0.2)
        ).save_pretrained(directory)
    elif kind == "bert":
        BertForMaskedLM(
            BertConfig(**sizes, num_hidden_layers=2, max_position_embeddings=64, initializer_range=0.2)
        ).save_pretrained(directory)
    else:
        special = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
        ModernBertForMaskedLM(
            ModernBertConfig(**sizes, num_hidden_layers=2, max_position_embeddings=256, **special)
        ).save_pretrained(directory)
    return directory


def tiny_recipe(backbone: Path, variant: str, **changes: object) -> Recipe:
    """Return a recipe that trains in moments."""
    content: dict[str, object] = {
        "variant": variant,
        "backbone": str(backbone),
        "answer_tokens": 4,
        "prompt_tokens": 12,
        "learning_rate": 5e-3,
        "batch": 6,
        "tokens_per_pass": 60,
        "epochs": 2,
        "precision": "float32",
        "validation_prompts": 12,
        "calibration_prompts": 12,
    }
    return Recipe.model_validate(content | changes)


def make_examples(count: int = 6, models: int = 3, seed: int = 0) -> list[Example]:
    """Return examples of random tokens, of different lengths, some without some answers."""
    draw = np.random.default_rng(seed)

    def tokens(low: int, high: int) -> tuple[int, ...]:
        return tuple(int(token) for token in draw.integers(len(SPECIAL), len(WORDS), draw.integers(low, high)))

    examples = []
    for number in range(count):
        answers = tuple(None if draw.random() < 0.2 else tokens(1, 5) for _ in range(models))
        labels = tuple(float(draw.integers(2)) for _ in range(models))
        examples.append(Example(tokens(2, 10), answers, labels, routed=number != 1))
    return examples


def make_material(count: int = 90) -> tuple[OutcomeMatrix, Answers]:
    """Return prompts that say which of two models is right, and the answers that follow from it; a third is always wrong."""
    draw = np.random.default_rng(3)
    prompts, scores, index = [], [], []
    for number in range(count):
        kind = "even" if draw.random() < 0.5 else "odd"
        words = " ".join(f"w{word}" for word in draw.integers(0, 40, 6))
        prompts.append(Prompt(f"q{number:03d}", f"{words} {kind}", task="parity"))
        scores.append([float(kind == "even"), float(kind == "odd"), 0.0])
        index.append([0 if kind == "even" else 1, 0 if kind == "odd" else 1, 1])
    score = np.array(scores)
    ones = np.ones_like(score)
    outcomes = OutcomeMatrix(tuple(prompts), ("evener", "odder", "wrong"), score, ones, ones, ones)
    return outcomes, Answers(("yes yes yes yes", "no no no no"), np.array(index, dtype=np.int32))
