"""Which files and Secrets are credentials, and what is said of the others without showing them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.certificates import Authority
from tests.support.sidecar import bearer, model_of, snapshot_of, state_of, upstream_of

from foresail_sidecar.configuration.secrets import (
    MAX_CREDENTIAL_BYTES,
    MAX_CREDENTIALS,
    credential_files,
    read_directory,
    tenants_of,
    usable,
)
from foresail_sidecar.configuration.state import CERTIFICATE
from foresail_sidecar.tenants.keys import hash_of_key, new_key


def put(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("content", "credential"),
    [
        (b"sk-1", "sk-1"),
        (b"sk-1\n", "sk-1"),
        (b"sk-1\r\n", "sk-1"),
        (b" sk 1 \n", " sk 1 "),
        (b"a" * 16384, "a" * 16384),
    ],
)
def test_a_file_is_a_credential_without_its_last_line_end(tmp_path: Path, content: bytes, credential: str) -> None:
    put(tmp_path, "openai/api-key", content)
    assert read_directory(tmp_path) == ({("openai", "api-key"): credential}, [])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"sk-1\nsk-2", "no header can carry"),
        (b"sk-1\r\nX-Injected: 1", "no header can carry"),
        (b"sk-\xc3\xa9", "no header can carry"),
        (b"sk-1\x00", "no header can carry"),
        (b"s" * (MAX_CREDENTIAL_BYTES + 1), "is larger than"),
    ],
)
def test_what_is_no_credential_is_told_and_not_shown(tmp_path: Path, content: bytes, words: str) -> None:
    put(tmp_path, "openai/api-key", content)
    put(tmp_path, "other/api-key", b"sk-good")
    values, (fault,) = read_directory(tmp_path)
    assert values == {("other", "api-key"): "sk-good"}
    assert words in fault
    assert str(tmp_path / "openai" / "api-key") in fault
    assert "sk-" not in fault
    from_manifests, (same_fault,) = usable({("openai", "api-key"): content})
    assert from_manifests == {}
    assert words in same_fault
    assert "Secret openai, key api-key" in same_fault


def test_mounted_secrets_are_links_into_a_hidden_directory(tmp_path: Path) -> None:
    put(tmp_path, "openai/..2026_01/api-key", b"sk-1")
    put(tmp_path, "openai/..2026_01/.dotted", b"sk-2")
    (tmp_path / "openai" / "..data").symlink_to("..2026_01")
    for key in ("api-key", ".dotted"):
        (tmp_path / "openai" / key).symlink_to(f"..data/{key}")
    assert read_directory(tmp_path) == ({("openai", "api-key"): "sk-1", ("openai", ".dotted"): "sk-2"}, [])


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    put(tmp_path, ".gitignore", b"*")
    put(tmp_path, "notes", b"no directory")
    put(tmp_path, ".git/config", b"hidden")
    put(tmp_path, "openai/nested/api-key", b"too deep")
    assert read_directory(tmp_path) == ({}, [])


def test_a_directory_that_does_not_exist_is_told() -> None:
    assert read_directory(None) == ({}, [])
    assert read_directory(Path("/absent")) == ({}, ["the directory of secrets /absent does not exist"])


def test_their_number_is_bounded(tmp_path: Path) -> None:
    for number in range(MAX_CREDENTIALS + 5):
        put(tmp_path, f"many/key-{number}", b"x")
    assert len(list(credential_files(tmp_path))) == MAX_CREDENTIALS
    values, (fault,) = read_directory(tmp_path)
    assert len(values) == MAX_CREDENTIALS
    assert f"holds more than {MAX_CREDENTIALS} files" in fault


def test_only_the_named_secret_says_whose_keys_are_valid() -> None:
    named, other = new_key(), new_key()
    lines = {
        ("tenants", "one"): f"{hash_of_key(named)} tenant=team-a",
        ("tenants", "two"): "sk-put-here-by-mistake",
        ("openai", "one"): f"{hash_of_key(other)} tenant=team-b",
    }
    directory, (fault,) = tenants_of(lines, "tenants")
    assert directory.tenant_of(named, 0) == "team-a"
    assert directory.tenant_of(other, 0) is None
    assert "Secret tenants, entry 'two'" in fault
    assert "sk-" not in fault
    nobody, faults = tenants_of(lines, None)
    assert nobody.tenant_of(named, 0) is None
    assert faults == ()


def test_certificates_may_have_lines_and_are_nobody_s_credential(tmp_path: Path) -> None:
    first, second = (Authority(tmp_path / name).certificate.read_text() for name in ("first", "second"))
    put(tmp_path / "secrets", "redis-tls/ca.crt", (first + "\n# the next one\n" + second).encode())
    values, faults = read_directory(tmp_path / "secrets")
    assert faults == []
    (value,) = values.values()
    assert value.count(CERTIFICATE) == 2
    upstream = upstream_of("http://127.0.0.1:9/v1", auth=bearer("redis-tls", "ca.crt"))
    state = state_of(snapshot_of(model_of("m", upstream)), credentials=values)
    assert state.models_without_credentials() == {"m"}


def test_certificates_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    put(tmp_path, "redis-tls/ca.crt", f"{CERTIFICATE}\nMIIB\n-----END CERTIFICATE-----\n".encode())
    values, (fault,) = read_directory(tmp_path)
    assert values == {}
    assert "redis-tls/ca.crt holds certificates that cannot be read" in fault
