"""The encoders against the original in torch, and against each other."""

from __future__ import annotations

import json
import random

import numpy as np
import onnx
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tests.support.learning import make_prompts
from tokenizers import Tokenizer

from foresail_router.features.encoder import Encoder, OnnxEncoder, Vectors, packaged_encoder
from foresail_router.features.onnx_graph import build_graph
from foresail_router.features.tokens import PromptTokenizer
from foresail_router.features.weights import MAX_TOKENS, EncoderSource, load_package, package_directory

TEXTS = [
    "What is the capital of France?",
    "def area(r):\n    return 3.14 * r ** 2  # why is this not precise?",
    "Übersetze: „Guten Morgen“ – 早上好 🙂",
    "x",
    "Solve for t: 3 t + 4 = 19. " * 8,
    *(prompt.prompt for prompt in make_prompts(6)),
]


@pytest.fixture(scope="module")
def source() -> EncoderSource:
    return load_package()


@pytest.fixture(scope="module")
def encoder(source: EncoderSource) -> Encoder:
    return packaged_encoder("float32", threads=1, source=source)


@pytest.fixture(scope="module")
def original() -> Vectors:
    """As the model's own configuration says: the tokenizer's ids, mean over tokens, unit length."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(package_directory())
    model = transformers.AutoModel.from_pretrained(package_directory()).eval()
    rows = []
    for text in TEXTS:
        with torch.inference_mode():
            hidden = model(
                **tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
            ).last_hidden_state[0]
        mean = hidden.mean(dim=0)
        rows.append((mean / mean.norm()).numpy())
    return np.stack(rows)


def cosines(left: Vectors, right: Vectors) -> Vectors:
    return (left * right).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


def test_float32_is_the_original(encoder: Encoder, original: Vectors) -> None:
    vectors = encoder.encode(TEXTS)
    assert cosines(vectors, original).min() > 0.99999
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_the_reference_is_the_original_and_holds_half_precision_numbers(
    source: EncoderSource, original: Vectors
) -> None:
    vectors = packaged_encoder("reference", source=source).encode(TEXTS)
    assert cosines(vectors, original).min() > 0.99999
    np.testing.assert_array_equal(vectors, vectors.astype(np.float16))


def test_int8_is_near_the_original(source: EncoderSource, original: Vectors) -> None:
    assert cosines(packaged_encoder("int8", threads=1, source=source).encode(TEXTS), original).min() > 0.975


def test_a_vector_does_not_depend_on_other_texts(source: EncoderSource) -> None:
    for precision in ("int8", "float32"):
        encoder = packaged_encoder(precision, threads=1, source=source)
        together = encoder.encode(TEXTS)
        for index in (0, 3, 4):
            np.testing.assert_array_equal(encoder.encode([TEXTS[index]])[0], together[index])


def test_padding_does_not_change_a_vector(source: EncoderSource, encoder: Encoder) -> None:
    """A GPU runs texts of different lengths together: what the mask hides must not count."""
    padded = OnnxEncoder(build_graph(source.weights, source.shape, int8=False), source.tokenizer, key="x", threads=1)
    padded._batch = len(TEXTS)
    assert cosines(padded.encode(TEXTS), encoder.encode(TEXTS)).min() > 0.99999


def test_both_ends_of_a_long_text_count(encoder: Encoder) -> None:
    draw = random.Random(0)
    filler = " ".join(draw.choice(("lorem", "ipsum", "dolor", "amet")) for _ in range(3000))
    plain, start, end, middle = encoder.encode(
        [
            filler,
            f"Write a poem about whales. {filler}",
            f"{filler} Now fix the bug in my SQL query.",
            filler[:9000] + " Whales. " + filler[9000:],
        ]
    )
    assert float(plain @ start) < 0.995
    assert float(plain @ end) < 0.995
    np.testing.assert_array_equal(plain, middle)


def test_token_ids_are_the_originals_and_never_too_many(source: EncoderSource) -> None:
    tokenizer = PromptTokenizer(source.tokenizer, max_tokens=MAX_TOKENS)
    original = transformers.AutoTokenizer.from_pretrained(package_directory())
    assert tokenizer.ids(TEXTS) == [original(text).input_ids for text in TEXTS]
    for text in ("word " * 5000, "a" * 20_000, "🙂" * 5000, "", "\ud800", "\0"):
        ids = tokenizer.ids([text])[0]
        assert 2 <= len(ids) <= MAX_TOKENS
        assert (ids[0], ids[-1]) == (101, 102)


@pytest.mark.parametrize("int8", [False, True])
def test_the_graph_is_valid_and_the_same_every_time(source: EncoderSource, int8: bool) -> None:
    graph = build_graph(source.weights, source.shape, int8=int8)
    onnx.checker.check_model(graph)
    assert build_graph(source.weights, source.shape, int8=int8) == graph


def test_progress_counts_every_text(encoder: Encoder) -> None:
    done: list[int] = []
    encoder.encode(TEXTS, done.append)
    assert sum(done) == len(TEXTS)
    assert encoder.encode([]).size == 0


def test_what_cannot_run_is_refused(source: EncoderSource) -> None:
    with pytest.raises(ValueError, match="not a usable encoder graph"):
        OnnxEncoder(b"no graph", source.tokenizer, key="x")
    with pytest.raises(ValueError, match="has no CUDAExecutionProvider; install onnxruntime-gpu"):
        packaged_encoder("float32", device="cuda", source=source)


@pytest.fixture(scope="module")
def tokenizers(source: EncoderSource) -> tuple[PromptTokenizer, Tokenizer]:
    """Ours, and the library's own on the same definition."""
    theirs = Tokenizer.from_buffer(source.tokenizer)
    theirs.no_padding()
    theirs.no_truncation()
    return PromptTokenizer(source.tokenizer, max_tokens=10_000), theirs


_TEXTS = st.text(
    st.sampled_from([*map(chr, range(32, 127)), *"\t\n\r", *"éß–🙂中\x00\x07\x0b\x7f\xa0"])
    | st.characters(codec="utf-8"),
    max_size=60,
)
_WORDS = st.sampled_from(
    [
        "the",
        "Rain",
        "qzxv",
        "tokenisation",
        "x" * 99,
        "y" * 101,
        "[SEP]",
        "[mask]",
        "[UNK",
        "##s",
        "e-mail",
        "3.14",
        "don't",
    ]
)


@given(parts=st.lists(_TEXTS | _WORDS, max_size=30), joint=st.sampled_from(["", " ", "\n"]))
def test_every_text_has_the_tokens_that_the_tokenizer_gives_it(
    tokenizers: tuple[PromptTokenizer, Tokenizer], parts: list[str], joint: str
) -> None:
    ours, theirs = tokenizers
    text = joint.join(parts)
    assert ours.ids([text])[0] == theirs.encode(text).ids


def test_a_tokenizer_of_another_kind_is_used_as_it_is(source: EncoderSource) -> None:
    parts = json.loads(source.tokenizer)
    parts["normalizer"]["lowercase"] = False
    cased = PromptTokenizer(json.dumps(parts).encode(), max_tokens=256)
    usual = PromptTokenizer(source.tokenizer, max_tokens=256)
    assert cased.ids(["Rain falls"]) != cased.ids(["rain falls"])
    assert usual.ids(["Rain falls"]) == usual.ids(["rain falls"]) == cased.ids(["rain falls"])
