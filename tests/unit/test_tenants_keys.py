"""API keys: what is printed, what is kept, what is read, and which of them are valid."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime

import pytest
import yaml

from foresail_api.console import main
from foresail_api.errors import UserError
from foresail_sidecar.tenants.directory import read_keys
from foresail_sidecar.tenants.keys import ApiKey, hash_of_key, is_key, key_line, new_key, read_key_line

HASH = "sha256:" + "0" * 64


def test_new_keys_differ_and_have_their_form() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(is_key(key) for key in keys)


@pytest.mark.parametrize(
    "text", ["", "fsk_", "sk-" + "a" * 43, "fsk_" + "a" * 42, "fsk_" + "a" * 44, "fsk_" + "ä" * 43]
)
def test_anything_else_is_no_key(text: str) -> None:
    assert not is_key(text)


@pytest.mark.parametrize("expires", [None, datetime(2027, 1, 31, 12, tzinfo=UTC)])
def test_a_line_is_read_as_it_was_written(expires: datetime | None) -> None:
    key = new_key()
    line = key_line(hash_of_key(key), "team-a", expires)
    assert key not in line
    until = None if expires is None else int(expires.timestamp() * 1000)
    assert read_key_line(line) == (hash_of_key(key), ApiKey("team-a", until))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fsk_secret tenant=a", "does not begin with a hash"),
        (f"{HASH[:-1]} tenant=a", "does not begin with a hash"),
        (HASH, "other fields than"),
        (f"{HASH} tenant=a expire=2027-01-31T00:00:00Z", "other fields than"),
        (f"{HASH} tenant=a tenant=b", "other fields than"),
        (f"{HASH} tenant=Team", "`tenant` must be"),
        (f"{HASH} tenant=anonymous", "not `anonymous`"),
        (f"{HASH} tenant=a expires=tomorrow", "`expires` must be a moment"),
        (f"{HASH} tenant=a expires=2027-01-31T00:00:00", "with its time zone"),
    ],
)
def test_a_broken_line_is_an_error_that_does_not_repeat_it(line: str, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)) as raised:
        read_key_line(line)
    assert line not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_key_is_valid_until_it_expires() -> None:
    lasting, ending = new_key(), new_key()
    entries = {
        "one": f"{hash_of_key(lasting)} tenant=a",
        "two": f"{hash_of_key(ending)} tenant=b expires=1970-01-01T00:00:05Z",
    }
    directory, faults = read_keys(entries)
    assert faults == ()
    assert directory.tenant_of(lasting, 10**15) == "a"
    assert directory.tenant_of(ending, 4999) == "b"
    assert directory.tenant_of(ending, 5000) is None
    assert directory.tenant_of(new_key(), 0) is None
    assert directory.tenant_of(hash_of_key(lasting), 0) is None


def test_a_broken_entry_is_named_and_leaves_the_others() -> None:
    key = new_key()
    directory, faults = read_keys({"bad": "fsk_oops", "good": f"{hash_of_key(key)} tenant=a"})
    assert directory.tenant_of(key, 0) == "a"
    assert len(faults) == 1
    assert "'bad'" in faults[0]
    assert "fsk_oops" not in faults[0]


def test_a_key_of_two_tenants_is_of_none() -> None:
    key = new_key()
    line = f"{hash_of_key(key)} tenant=a"
    again, faults = read_keys({"one": line, "two": line})
    assert again.tenant_of(key, 0) == "a"
    assert faults == ()
    directory, faults = read_keys({"one": line, "two": f"{hash_of_key(key)} tenant=b"})
    assert directory.tenant_of(key, 0) is None
    assert "'one' and 'two'" in faults[0]


def test_a_created_key_is_printed_once_with_the_secret_that_makes_it_valid(capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        "key",
        "create",
        "--tenant",
        "team-a",
        "--expires-in-days",
        "30",
        "--secret",
        "callers",
        "--namespace",
        "chat",
    ]
    assert main(asked) == 0
    printed = capsys.readouterr().out
    (key,) = re.findall(r"fsk_\S+", printed)
    manifest = yaml.safe_load(printed[printed.index("apiVersion") : printed.index("If the Secret")])
    assert manifest["metadata"] == {"name": "callers", "namespace": "chat"}
    directory, faults = read_keys(manifest["stringData"])
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    assert faults == ()
    assert directory.tenant_of(key, now_ms) == "team-a"
    assert directory.tenant_of(key, now_ms + 31 * 86_400_000) is None
    patch = yaml.safe_load(re.findall(r"--patch '(.*)'", printed)[0])
    assert patch == {"stringData": manifest["stringData"]}


def test_a_key_from_elsewhere_is_hashed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key()
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{key}\n"))
    assert main(["key", "hash", "--tenant", "team-a"]) == 0
    assert capsys.readouterr().out == f"{hash_of_key(key)} tenant=team-a\n"


@pytest.mark.parametrize(
    ("arguments", "typed", "words"),
    [
        (["hash", "--tenant", "a"], "hunter2\n", "must hold a key on its first line"),
        (["hash", "--tenant", "a"], "", "must hold a key on its first line"),
        (["hash", "--tenant", "Team"], "", "--tenant 'Team' must be"),
        (["create", "--tenant", "anonymous"], "", "not `anonymous`"),
    ],
)
def test_the_command_says_what_it_cannot_use(
    arguments: list[str], typed: str, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert main(["key", *arguments]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert "hunter2" not in said.err
    assert said.out == ""
