"""What the lookahead models see: blocks hide from one another, one packed pass equals separate ones, masks are as many as asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.tiny_backbones import make_examples, save_backbone, tiny_recipe
from tokenizers.processors import TemplateProcessing

from foresail_router.lookahead.backbones import load_causal, load_masked, load_tokenizer, model_token_numbers
from foresail_router.lookahead.causal import CausalLookahead
from foresail_router.lookahead.examples import Example, prompt_tokens
from foresail_router.lookahead.masked import MaskedLookahead
from foresail_router.lookahead.networks import build_network
from foresail_router.lookahead.packing import Layout
from foresail_router.lookahead.recipe import Recipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_backbone(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_backbone(tmp_path_factory.mktemp("bert"), "bert")


def _causal(recipe: Recipe, states: Path) -> CausalLookahead:
    network = build_network(recipe, 3, device=CPU, states=states)
    network.eval()
    network.prepare(make_examples(), answers=True)
    assert isinstance(network.core, CausalLookahead)
    return network.core


def _only(example: Example, model: int) -> Example:
    answers = tuple(answer if number == model else None for number, answer in enumerate(example.answers))
    return replace(example, answers=answers)


def test_a_block_sees_the_prompt_and_itself_alone() -> None:
    layout = Layout.of([2, 1], [[1, 2], [1, 1]])
    assert layout.position[0].tolist() == [0, 1, 2, 2, 3]
    seen = layout.causal_mask()[:, 0].int()
    assert seen[0].tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]
    assert seen[1, 2].tolist() == [1, 0, 1, 0, 0]
    assert layout.real.tolist() == [[True] * 5, [True] * 3 + [False] * 2]


@torch.no_grad()
def test_one_pass_over_all_model_tokens_equals_a_pass_for_each(llama: Path, tmp_path: Path) -> None:
    core = _causal(tiny_recipe(llama, "causal"), tmp_path)
    examples = make_examples()
    together = core.logits(examples)
    for row, example in enumerate(examples):
        for model in range(3):
            vectors = torch.cat([core.embeddings(torch.tensor(example.prompt)), core.model_tokens[model : model + 1]])
            hidden = core.upper(inputs_embeds=vectors[None], use_cache=False).last_hidden_state[0, -1]
            torch.testing.assert_close(core.routing_head(hidden)[0], together[row, model], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_packed_row_equals_a_row_for_each_answer(llama: Path, tmp_path: Path) -> None:
    core = _causal(tiny_recipe(llama, "causal"), tmp_path)
    for example in make_examples():
        packed = core.sums([example], progress=0.5, seed=0)
        language = torch.zeros(())
        for model, answer in enumerate(example.answers):
            if answer is None:
                continue
            head = core.embeddings(torch.tensor(example.prompt))
            read = core.embeddings(torch.tensor(answer[:-1], dtype=torch.long))
            vectors = torch.cat([head, core.model_tokens[model : model + 1], read])
            hidden = core.upper(inputs_embeds=vectors[None], use_cache=False).last_hidden_state[0]
            logits = core.language_head(hidden[len(head) :])
            language += torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum")
        torch.testing.assert_close(packed.language, language, atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_rows_of_a_batch_do_not_touch_one_another(llama: Path, bert: Path, tmp_path: Path) -> None:
    examples = make_examples()
    for core in (
        _causal(tiny_recipe(llama, "causal"), tmp_path),
        build_network(tiny_recipe(bert, "masked"), 3, device=CPU, states=tmp_path).eval().core,
    ):
        together = core.sums(examples, progress=1.0, seed=0)
        apart = [core.sums([example], progress=1.0, seed=0) for example in examples]
        torch.testing.assert_close(together.routing, sum(part.routing for part in apart), atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(together.language, sum(part.language for part in apart), atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_answers_do_not_reach_what_judges_a_causal_model(llama: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(llama, "causal")
    core = _causal(recipe, tmp_path)
    examples = make_examples()
    with_answers = core.sums(examples, progress=0.5, seed=0).routing
    core.recipe = recipe.model_copy(update={"response_weight": 0.0})
    torch.testing.assert_close(core.sums(examples, progress=0.5, seed=0).routing, with_answers, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_kept_states_of_frozen_layers_equal_those_computed_on_the_way(llama: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(llama, "causal", frozen_layers=2)
    core = _causal(recipe, tmp_path)
    example = make_examples()[0]
    again = _causal(recipe, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    torch.testing.assert_close(core.logits([example]), again.logits([example]))
    whole = load_causal(tiny_recipe(llama, "causal"))
    hidden = whole.upper(input_ids=torch.tensor([example.prompt]), output_hidden_states=True).hidden_states[2][0]
    assert core.states is not None
    from foresail_router.lookahead.hidden import Tokens

    kept = core.states.of(Tokens(example.prompt, ()))
    torch.testing.assert_close(kept.float(), hidden, atol=0.02, rtol=0.02)


def test_frozen_parts_learn_nothing(llama: Path, tmp_path: Path) -> None:
    core = _causal(tiny_recipe(llama, "causal", frozen_layers=2), tmp_path)
    names = {name for name, part in core.named_parameters() if part.requires_grad}
    assert {"model_tokens", "routing_head.weight"} < names
    assert not any(name.startswith(("embeddings", "language_head")) for name in names)
    assert {name.split(".")[2] for name in names if name.startswith("upper.layers")} == {"0"}


@torch.no_grad()
def test_a_masked_row_is_the_prompt_and_m_masks_for_each_model(bert: Path) -> None:
    backbone = load_masked(tiny_recipe(bert, "masked"))
    core = MaskedLookahead(tiny_recipe(bert, "masked"), backbone, 3).eval()
    example = make_examples()[0]
    (row,) = core._rows(example, None, 1.0)
    vocabulary = backbone.embeddings.num_embeddings
    blocks = [token for model in range(3) for token in [*[vocabulary + model] * 4, 3]]
    assert row.tokens == [2, *example.prompt, 3, *blocks]
    spare = model_token_numbers(backbone.tokenizer, 3)
    assert spare == [4, 5, 6]
    torch.testing.assert_close(core.model_tokens.data, backbone.embeddings.weight[spare])
    position = Layout.of([row.prompt], [row.blocks]).position[0].tolist()
    start = len(example.prompt) + 2
    assert position == [*range(start), *(list(range(start, start + 5)) * 3)]


@torch.no_grad()
def test_a_masked_pass_is_an_ordinary_one_with_the_spare_tokens(bert: Path) -> None:
    recipe = tiny_recipe(bert, "masked", restart_positions=False)
    backbone = load_masked(recipe)
    core = MaskedLookahead(recipe, backbone, 3).eval()
    example = make_examples()[0]
    tokens = [2, *example.prompt, 3, *[4] * 4, 3, *[5] * 4, 3, *[6] * 4, 3]
    hidden = backbone.upper(input_ids=torch.tensor([tokens])).last_hidden_state[0, 0]
    torch.testing.assert_close(core.routing_head(hidden), core.logits([example])[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_separate_rows_hide_the_other_models_answers(bert: Path, tmp_path: Path) -> None:
    changed = {"response_weight": 0.2, "curriculum": {"kind": "end", "start": 0.1, "full_at": 1.0}}
    for joint in (True, False):
        recipe = tiny_recipe(bert, "masked", joint=joint, **changed)
        core = build_network(recipe, 3, device=CPU, states=tmp_path).eval().core
        assert isinstance(core, MaskedLookahead)
        example = replace(make_examples()[0], answers=((20, 21, 22, 23), (24, 25, 26, 27), (28, 29, 30, 31)))
        alone = replace(_only(example, 0), labels=(1.0, float("nan"), float("nan")))
        judged = replace(example, labels=alone.labels)
        sums = [core.sums([e], progress=0.0, seed=0).routing for e in (judged, alone)]
        assert torch.allclose(*sums) is not joint


def test_a_prompt_without_any_answer_is_learned_from_too(llama: Path, bert: Path, tmp_path: Path) -> None:
    example = replace(make_examples()[0], answers=(None, None, None))
    for variant, backbone in (("causal", llama), ("masked", bert)):
        core = build_network(tiny_recipe(backbone, variant), 3, device=CPU, states=tmp_path).core
        sums = core.sums([example], progress=0.0, seed=0)
        assert sums.routing > 0
        assert sums.language == 0
        (sums.routing + sums.language).backward()


def test_a_backbone_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    from foresail_api.errors import UserError

    for name in (f"{tmp_path}/nothing", "package:no-such-package/model"):
        with pytest.raises(UserError, match=f"backbone {name}"):
            load_causal(Recipe(variant="causal", backbone=name))


def test_freezing_every_layer_is_refused(llama: Path) -> None:
    from foresail_api.errors import UserError

    with pytest.raises(UserError, match="leaves none of the 3 layers"):
        load_causal(tiny_recipe(llama, "causal", frozen_layers=3))


def test_new_tokens_begin_near_the_mean_of_the_old(llama: Path, tmp_path: Path) -> None:
    core = _causal(tiny_recipe(llama, "causal"), tmp_path)
    weight = core.embeddings.weight.detach().numpy()
    distance = np.linalg.norm(core.model_tokens.detach().numpy() - weight.mean(axis=0), axis=1)
    assert (distance > 0).all()
    assert (distance < np.linalg.norm(weight - weight.mean(axis=0), axis=1).mean()).all()


def test_prompts_are_cut_from_the_left_and_begun_as_the_decoder_expects(llama: Path, bert: Path) -> None:
    tokenizer = load_tokenizer(str(llama))
    recipe = tiny_recipe(llama, "causal", prompt_tokens=3)
    texts = ["w0 w1 w2 w3", "", "w5"]
    ids = {word: tokenizer.convert_tokens_to_ids(word) for word in ("w1", "w2", "w3", "w5", "[UNK]")}
    cut = [(ids["w1"], ids["w2"], ids["w3"]), (ids["[UNK]"],), (ids["w5"],)]
    assert prompt_tokens(tokenizer, texts, recipe) == cut
    tokenizer.bos_token = "[CLS]"
    tokenizer._tokenizer.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    assert prompt_tokens(tokenizer, texts, recipe) == [(2, *tokens) for tokens in cut]
    assert prompt_tokens(tokenizer, texts, tiny_recipe(bert, "masked", prompt_tokens=3)) == cut
