"""Training on tiny networks: it learns, goes on exactly where it stopped, stops early, adapts by LoRA, and runs the full recipes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.tiny_backbones import make_examples, make_material, save_backbone, tiny_recipe

from foresail_api.errors import UserError
from foresail_router.lookahead.examples import Example
from foresail_router.lookahead.model_files import open_model
from foresail_router.lookahead.networks import LookaheadNetwork, build_network
from foresail_router.lookahead.recipe import Recipe, load_recipe
from foresail_router.lookahead.runs import Material, measure_once, train_once
from foresail_router.lookahead.training import History, Validation, train

CPU = torch.device("cpu")
RECIPES = Path(__file__).parents[2] / "benchmarks" / "lookahead"


class _Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_backbone(tmp_path_factory.mktemp(kind), kind) for kind in ("llama", "bert", "modernbert")}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _trained(
    recipe: Recipe, directory: Path, *, stop_at: int | None = None, examples: list[Example] | None = None
) -> tuple[LookaheadNetwork, History]:
    examples = examples or make_examples(12)
    network = build_network(recipe, 3, device=CPU, states=directory / "states")
    network.prepare(examples, answers=True)
    network.start(examples)
    seen: list[str] = []

    def progress(message: str) -> None:
        seen.append(message)
        if len(seen) == stop_at:
            raise _Stopped

    validation = Validation(examples, np.array([example.labels for example in examples]))
    return network, train(network, examples, validation, directory, progress=progress)


@pytest.mark.parametrize(
    ("kind", "variant", "changes"),
    [
        ("llama", "causal", {}),
        ("llama", "causal", {"frozen_layers": 2, "precision": "bfloat16"}),
        ("llama", "causal", {"lora": {"rank": 4}}),
        ("bert", "masked", {}),
        ("bert", "masked", {"freeze_embeddings": True, "joint": False, "precision": "bfloat16"}),
        ("modernbert", "masked", {"lora": {"rank": 4}, "restart_positions": False}),
    ],
)
def test_both_losses_fall(
    backbones: dict[str, Path], tmp_path: Path, kind: str, variant: str, changes: dict[str, object]
) -> None:
    recipe = tiny_recipe(backbones[kind], variant, epochs=5, dropout=0.0, **changes)
    _, history = _trained(recipe, tmp_path)
    first, last = history.evaluations[0], history.evaluations[-1]
    assert last.routing_loss < first.routing_loss
    assert last.language_loss < first.language_loss
    assert history.best.validation_score >= first.validation_score


@pytest.mark.parametrize(("kind", "variant"), [("llama", "causal"), ("bert", "masked")])
def test_a_stopped_training_goes_on_to_the_same_weights(
    backbones: dict[str, Path], tmp_path: Path, kind: str, variant: str
) -> None:
    recipe = tiny_recipe(backbones[kind], variant, epochs=3, curriculum={"kind": "random"})
    whole, history = _trained(recipe, tmp_path / "whole")
    with pytest.raises(_Stopped):
        _trained(recipe, tmp_path / "parts", stop_at=2)
    assert (tmp_path / "parts" / "checkpoint.safetensors").exists()
    parts, again = _trained(recipe, tmp_path / "parts")
    assert again.evaluations == history.evaluations
    for (name, weight), resumed in zip(whole.named_parameters(), parts.parameters(), strict=True):
        assert torch.equal(weight, resumed), name
    assert not list((tmp_path / "parts").glob("*.safetensors"))


def test_a_damaged_checkpoint_is_named(backbones: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match=r"checkpoint.safetensors: is missing or damaged"):
        _trained(tiny_recipe(backbones["llama"], "causal"), tmp_path)


def test_training_ends_when_validation_no_longer_improves(backbones: dict[str, Path], tmp_path: Path) -> None:
    recipe = tiny_recipe(backbones["llama"], "causal", epochs=50, patience=1, learning_rate=1e-9)
    _, history = _trained(recipe, tmp_path)
    assert len(history.evaluations) == 2


def test_both_arms_begin_alike_and_learn_different_things(backbones: dict[str, Path], tmp_path: Path) -> None:
    networks = [
        build_network(tiny_recipe(backbones["bert"], "masked", response_weight=weight), 3, device=CPU, states=tmp_path)
        for weight in (0.2, 0.0)
    ]
    for one, other in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(one, other)
    with_it, _ = _trained(tiny_recipe(backbones["bert"], "masked", response_weight=0.2), tmp_path / "with")
    without, history = _trained(tiny_recipe(backbones["bert"], "masked", response_weight=0.0), tmp_path / "without")
    assert not torch.equal(with_it.core.model_tokens, without.core.model_tokens)
    assert history.evaluations[-1].language_loss == 0


@pytest.mark.parametrize("name", ["causal_gpu", "masked_gpu", "causal_cpu", "masked_cpu"])
def test_the_full_recipes_run_with_a_tiny_backbone(backbones: dict[str, Path], tmp_path: Path, name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    kind = {"causal_gpu": "llama", "causal_cpu": "llama", "masked_gpu": "modernbert", "masked_cpu": "bert"}[name]
    changes = {
        "backbone": str(backbones[kind]),
        "batch": 6,
        "frozen_layers": 2 if recipe.frozen_layers else 0,
        # The tiny encoder has 64 positions.
        **({"answer_tokens": 32} if kind == "bert" else {}),
    }
    _, history = _trained(recipe.model_copy(update=changes), tmp_path)
    assert history.evaluations[-1].step == 2 * recipe.epochs
    assert all(np.isfinite(seen.language_loss) for seen in history.evaluations)


@pytest.mark.parametrize(
    ("kind", "variant", "rate", "epochs"), [("llama", "causal", 5e-3, 6), ("bert", "masked", 1e-2, 12)]
)
def test_a_trained_model_routes_prompts_it_never_saw(
    backbones: dict[str, Path], tmp_path: Path, kind: str, variant: str, rate: float, epochs: int
) -> None:
    outcomes, answers = make_material(150)
    material = Material(outcomes, answers, 0, CPU, tmp_path / "states")
    changes = {"batch": 12, "tokens_per_pass": 2000, "dropout": 0.0, "response_weight": 0.2}
    recipe = tiny_recipe(backbones[kind], variant, learning_rate=rate, epochs=epochs, **changes)
    done = train_once(material, recipe, tmp_path / "run", lambda message: None)
    figures = measure_once(material, tmp_path / "run", lambda message: None)
    assert figures["score"] > 0.9
    assert figures["gap_closed"] > 0.8
    assert figures["brier"] < figures["brier_constant"]
    model = open_model(tmp_path / "run", device=CPU, states=tmp_path / "states")
    _, quality = model.predict(["w1 w2 w3 w4 w5 w6 even", "w9 w7 w5 w3 w1 w8 odd"])
    assert quality.argmax(axis=1).tolist() == [0, 1]
    assert quality[:, 2].max() < 0.3
    assert train_once(material, recipe, tmp_path / "run", lambda message: None) == done
    with pytest.raises(UserError, match="another recipe"):
        train_once(material, recipe.model_copy(update={"seed": 9}), tmp_path / "run", lambda message: None)
