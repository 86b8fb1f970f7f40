"""What a router reads of a text, how many CPUs it may use, and the cache of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from foresail_router.features.cache import CachedEncoder, default_cache_directory
from foresail_router.features.cpus import cpu_limit
from foresail_router.features.encoder import Progress, Vectors
from foresail_router.features.text import readable, text_key
from foresail_router.features.tokens import PromptTokenizer


def test_a_long_text_is_read_at_both_ends() -> None:
    assert readable("short") == "short"
    assert readable("x" * 4097) == "x" * 4097
    text = readable("a" * 5000 + "secret" + "b" * 5000)
    assert text == "a" * 2048 + "\n" + "b" * 2048
    assert text_key("a" * 5000 + "one" + "b" * 5000) == text_key("a" * 5000 + "two" + "b" * 5000)
    assert text_key("one") != text_key("two")


def test_half_of_a_surrogate_pair_is_readable() -> None:
    assert readable("a\ud800b") == "a?b"
    assert readable("🙂" * 5000) == "🙂" * 2048 + "\n" + "🙂" * 2048
    assert len(text_key("\udfff")) == 32


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_the_control_groups_limit_counts(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert cpu_limit(tmp_path) == (expected or cpu_limit(tmp_path / "no such group"))
    assert cpu_limit() >= 1


def test_what_is_no_tokenizer_is_refused() -> None:
    with pytest.raises(ValueError, match="not a tokenizer definition"):
        PromptTokenizer(b"{}", max_tokens=8)


class CountingEncoder:
    """Counts what it is asked."""

    key = "counting"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        self.asked += texts
        if progress is not None:
            progress(len(texts))
        return np.array([[len(text), text.count("a")] for text in texts], dtype=np.float32).reshape(len(texts), 2)


def test_the_cache_encodes_each_text_once(tmp_path: Path) -> None:
    encoder, done = CountingEncoder(), []
    vectors = CachedEncoder(encoder, tmp_path).encode(["aa", "b", "aa"], done.append)
    assert vectors.tolist() == [[2, 2], [1, 0], [2, 2]]
    assert sorted(encoder.asked) == ["aa", "b"]
    again = CountingEncoder()
    assert CachedEncoder(again, tmp_path).encode(["b", "new"]).tolist() == [[1, 0], [3, 0]]
    assert again.asked == ["new"]
    assert sum(done) == 3
    assert all(b"aa" not in path.read_bytes() for path in tmp_path.rglob("*.safetensors"))
    assert CachedEncoder(encoder, tmp_path).encode([]).shape == (0, 2)


def test_encoders_do_not_share_a_cache(tmp_path: Path) -> None:
    CachedEncoder(CountingEncoder(), tmp_path).encode(["a"])
    other = CountingEncoder()
    other.key = "other"
    CachedEncoder(other, tmp_path).encode(["a"])
    assert other.asked == ["a"]


def test_a_damaged_cache_is_an_empty_one(tmp_path: Path) -> None:
    CachedEncoder(CountingEncoder(), tmp_path).encode(["a"])
    for path in tmp_path.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:20])
    encoder = CountingEncoder()
    assert CachedEncoder(encoder, tmp_path).encode(["a"]).tolist() == [[1, 1]]
    assert encoder.asked == ["a"]


def test_a_file_that_goes_while_the_cache_is_in_use_is_encoded_again(tmp_path: Path) -> None:
    CachedEncoder(CountingEncoder(), tmp_path).encode(["a"])
    encoder = CountingEncoder()
    cache = CachedEncoder(encoder, tmp_path)
    for path in tmp_path.rglob("*.safetensors"):
        path.unlink()
    assert cache.encode(["a", "a"]).tolist() == [[1, 1], [1, 1]]
    assert CachedEncoder(CountingEncoder(), tmp_path).encode(["a"]).tolist() == [[1, 1]]


def test_the_cache_lies_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_directory() == tmp_path / "foresail" / "embeddings"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_directory() == tmp_path / ".cache" / "foresail" / "embeddings"
