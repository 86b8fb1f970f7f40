"""The dense view of prompts: what it says of texts, and that it says the same at all times."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.data.records import Prompt
from foresail_router.features.lexical import BUCKETS, STRUCTURE
from foresail_router.strategies.base import Features, TrainingSet
from foresail_router.strategies.views import View, fit_view

KITCHEN = ("simmer the onions in butter", "bake bread with yeast and flour", "roast the carrots with salt")
GARAGE = ("change the engine oil filter", "replace the brake pads", "tighten the bolts of the wheel")
WIDTH = 8


def training_set(count: int = 60) -> TrainingSet:
    generator = np.random.default_rng(0)
    texts = [f"{(KITCHEN, GARAGE)[number % 2][number % 3]} number {number}" for number in range(count)]
    score = np.zeros((count, 2))
    prompts = tuple(Prompt(f"p{number}", text) for number, text in enumerate(texts))
    vectors = generator.normal(size=(count, WIDTH))
    features = Features(texts, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return TrainingSet(features, OutcomeMatrix(prompts, ("a", "b"), score, score, score, score), np.arange(count) % 5)


def test_texts_of_a_kind_lie_together() -> None:
    training = training_set()
    lsa = fit_view(training, 4).lsa(training.features)
    np.testing.assert_allclose(np.linalg.norm(lsa, axis=1), 1.0, rtol=1e-5)
    similarity = lsa @ lsa.T
    kind = np.arange(60) % 2
    assert similarity[kind[:, None] == kind[None]].mean() > similarity[kind[:, None] != kind[None]].mean() + 0.3


def test_the_blocks_stand_side_by_side() -> None:
    training = training_set()
    view = fit_view(training, 16)
    dense = view.apply(training.features)
    assert dense.shape == (60, WIDTH + 16 + STRUCTURE)
    np.testing.assert_array_equal(dense[:, :WIDTH], training.features.embeddings.astype(np.float32))
    np.testing.assert_array_equal(dense[:, WIDTH:-STRUCTURE], view.lsa(training.features))
    assert np.abs(view.structure(training.features)).max() <= 3.0


def test_a_text_has_one_view_at_fitting_and_at_predicting_alone_or_with_others() -> None:
    training = training_set()
    view = fit_view(training)
    at_fitting = view.apply(training.features)
    rebuilt = View.from_arrays(view.arrays())
    for number in (0, 17, 59):
        alone = Features([training.features.texts[number]], training.features.embeddings[number : number + 1])
        np.testing.assert_array_equal(rebuilt.apply(alone)[0], at_fitting[number])


def test_buckets_that_no_training_text_is_in_take_no_room() -> None:
    training = training_set()
    arrays = fit_view(training, 8).arrays()
    assert len(arrays["view.projection"]) < 1.1 * len(set(training.features.lexical.columns.tolist())) < BUCKETS / 10


def test_the_same_features_are_fitted_once_and_equal_ones_alike() -> None:
    training, again = training_set(), training_set()
    assert fit_view(training, 8) is fit_view(training, 8)
    assert fit_view(training, 4).lsa_width == 4
    for name, array in fit_view(training, 8).arrays().items():
        np.testing.assert_array_equal(fit_view(again, 8).arrays()[name], array)


def test_fewer_prompts_than_dimensions_still_have_a_view() -> None:
    training = training_set(3)
    assert fit_view(training).apply(training.features).shape == (3, WIDTH + 2 + STRUCTURE)
    with pytest.raises(ValueError, match="fewer than two prompts"):
        fit_view(training_set(1))


def test_a_text_without_counts_and_no_text_at_all() -> None:
    view = fit_view(training_set(), 8)
    assert np.isfinite(view.apply(Features([""], np.zeros((1, WIDTH))))).all()
    assert view.apply(Features([], np.zeros((0, WIDTH)))).shape == (0, WIDTH + 8 + STRUCTURE)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("view.projection", lambda array: array[1:], "does not fit"),
        ("view.projection.buckets", lambda array: array + np.int32(BUCKETS), "not there"),
        ("view.projection.buckets", lambda array: array[::-1], "twice"),
        ("view.structure", lambda array: array[:, 1:], "does not fit"),
        ("view.projection", lambda array: array * np.float16(np.nan), "not finite"),
        ("view.structure", lambda array: array * 0, "not positive"),
    ],
)
def test_other_arrays_are_refused(name: str, change, message: str) -> None:  # type: ignore[no-untyped-def]
    arrays = fit_view(training_set(), 8).arrays()
    with pytest.raises(ValueError, match=message):
        View.from_arrays({**arrays, name: change(arrays[name])})
    with pytest.raises(ValueError, match=f"lacks '{name}'"):
        View.from_arrays({key: array for key, array in arrays.items() if key != name})


def test_a_view_is_applied_without_the_libraries_that_fit_it() -> None:
    program = (
        "import sys, numpy as np\n"
        "from foresail_router.strategies.base import Features\n"
        "from foresail_router.strategies.views import View\n"
        f"view = View(np.ones(({BUCKETS}, 2), np.float16), np.ones((2, {STRUCTURE}), np.float32))\n"
        "view.apply(Features(['some text'], np.ones((1, 4))))\n"
        "print(sorted({'torch', 'sklearn', 'scipy', 'faiss'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
