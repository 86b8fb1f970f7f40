"""Files of manifests: what is found, and errors that name file, object and field."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from foresail_api.compile import Target, compile_policy
from foresail_api.errors import UserError
from foresail_api.manifests import MAX_FILE_BYTES, Manifests, load_manifests

POOL = """
    apiVersion: foresail.dev/v1alpha1
    kind: ModelPool
    metadata: {name: pool}
    spec:
      models:
        - name: small
          upstreams: [{name: main, url: "https://models.example/v1"}]
          contextWindowTokens: 8192
          maxOutputTokens: 1024
"""
POLICY = """
    apiVersion: foresail.dev/v1alpha1
    kind: RoutingPolicy
    metadata: {name: policy}
    spec: {poolRef: {name: pool}, router: {strategy: Cheapest}}
"""
SECRET = """
    apiVersion: v1
    kind: Secret
    metadata: {name: keys}
    data: {encoded: c2stMQ==}
    stringData: {plain: sk-2}
"""


def written(folder: Path, *documents: str, name: str = "all.yaml") -> Path:
    path = folder / name
    path.write_text("---\n".join(textwrap.dedent(document) for document in documents))
    return path


def refused(*paths: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_manifests(list(paths))
    return str(caught.value)


def only_policy(manifests: Manifests, name: str | None = None) -> str:
    return manifests.policy(name).metadata.name


def test_a_directory_gives_pools_policies_and_secrets(tmp_path: Path) -> None:
    written(tmp_path, POOL, SECRET, name="a.yaml")
    written(tmp_path, POLICY, name="b.yml")
    written(tmp_path, "not: [yaml", name="notes.txt")
    found = load_manifests([tmp_path])
    policy = found.policy(None)
    assert found.pool_of(policy) is found.pools["default", "pool"]
    assert found.credentials_of(policy) == {("keys", "encoded"): b"sk-1", ("keys", "plain"): b"sk-2"}


def test_secrets_do_not_show(tmp_path: Path) -> None:
    assert "sk-" not in repr(load_manifests([written(tmp_path, SECRET)]))


def test_secrets_of_another_namespace_are_not_the_policys(tmp_path: Path) -> None:
    elsewhere = SECRET.replace("{name: keys}", "{name: keys, namespace: other}").replace("sk-2", "sk-other")
    found = load_manifests([written(tmp_path, POLICY, SECRET, elsewhere)])
    assert found.credentials_of(found.policy(None))["keys", "plain"] == b"sk-2"


def test_a_list_and_other_kinds_and_empty_documents(tmp_path: Path) -> None:
    items = textwrap.indent(textwrap.dedent(POLICY).strip(), "    ").replace("    api", "  - api", 1)
    written(tmp_path, f"apiVersion: v1\nkind: List\nitems:\n{items}\n", "kind: ConfigMap\n", "# nothing\n", POOL)
    found = load_manifests([tmp_path])
    assert only_policy(found) == "policy"
    assert list(found.pools) == [("default", "pool")]


def test_the_policy_is_chosen_by_name(tmp_path: Path) -> None:
    written(tmp_path, POLICY, POLICY.replace("name: policy", "name: other"))
    found = load_manifests([tmp_path])
    assert only_policy(found, "other") == "other"
    with pytest.raises(UserError, match="choose one of them with --policy: other, policy"):
        found.policy(None)
    with pytest.raises(UserError, match="no RoutingPolicy third was found; the files hold: other, policy"):
        found.policy("third")
    with pytest.raises(UserError, match="no RoutingPolicy was found; the files hold: none"):
        Manifests({}, {}, {}).policy(None)


def test_every_broken_object_is_named_at_once(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        POOL.replace("8192", "0"),
        POLICY.replace("strategy: Cheapest", "strategy: Cheap"),
        POLICY.replace("v1alpha1", "v1").replace("name: policy", "name: newer"),
        SECRET.replace("c2stMQ==", "sk-plain"),
    )
    message = refused(path)
    assert f"{path}: ModelPool pool: `spec.models[0].contextWindowTokens`" in message
    assert "(it is 0)" in message
    assert f"{path}: RoutingPolicy policy: `spec.router.strategy`" in message
    assert "`apiVersion` foresail.dev/v1 is not known; use foresail.dev/v1alpha1" in message
    assert "`data.encoded` is not base64; use `stringData`" in message
    assert "sk-plain" not in message


@pytest.mark.parametrize(
    "value", ["*sk-live-key", "!sk-live-key", "@sk-live-key", "\tsk-live-key", "sk-live-key: x: y"]
)
def test_a_key_that_is_no_yaml_is_not_repeated(tmp_path: Path, value: str) -> None:
    written(tmp_path, f"apiVersion: v1\nkind: Secret\nmetadata: {{name: k}}\nstringData:\n  key: {value}\n")
    message = refused(tmp_path)
    assert "sk-live-key" not in message
    assert "line 5" in message or "line 6" in message or "stringData" in message


@pytest.mark.parametrize("kind", [POOL, POLICY, SECRET])
def test_the_same_object_twice_is_refused(tmp_path: Path, kind: str) -> None:
    written(tmp_path, kind, name="a.yaml")
    written(tmp_path, kind, name="b.yaml")
    assert "appears twice; remove one" in refused(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: [ModelPool", "all.yaml: line 1 is not YAML"),
        ("a: 1\n\tb: 2", "line 2 is not YAML"),
        ("kind: !!python/object:os.system x", "is not YAML"),
        ("- 1\n- 2", "holds a list where an object with `kind` is expected"),
        ("text", "holds a str where an object"),
        ("kind: List\nitems: [text]", "holds a str where an object"),
        ("kind: List\nitems: 5", "holds a int where an object"),
        ("date: 2026-99-99", "quote it"),
        ("[" * 3000, "nested too deeply"),
        ("apiVersion: foresail.dev/v1alpha1\nkind: ModelPool", "ModelPool without a name: `metadata`"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: k}\nstringData: [sk-1]", "`stringData`"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: k}\nstringData: {a: 123456}", "write it in quotes"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: k}\nstringData: {a: }", "valid string"),
    ],
)
def test_what_cannot_be_read_is_told_by_file_and_line(tmp_path: Path, text: str, words: str) -> None:
    message = refused(written(tmp_path, text))
    assert words in message
    assert "all.yaml" in message
    assert not re.search("sk-1|123456", message)


@pytest.mark.parametrize("amount", ["0.25", "5"])
def test_money_without_quotes_is_told_to_need_some(tmp_path: Path, amount: str) -> None:
    written(tmp_path, POLICY.replace("spec: {", f"spec: {{costLimits: {{perRequest: {amount}}}, "))
    said = f"`spec.costLimits.perRequest`: must be text; write it in quotes (it is {amount})"
    assert said in refused(tmp_path)


@pytest.mark.parametrize("amount", ["5,00", "$5", "-1", "1e-3", "0.0000001"])
def test_an_amount_that_is_none_is_told_what_one_looks_like(tmp_path: Path, amount: str) -> None:
    written(tmp_path, POLICY.replace("spec: {", f"spec: {{costLimits: {{perRequest: '{amount}'}}, "))
    said = 'must be US dollars in digits, with at most 6 decimals, such as "0.25"'
    assert f"`spec.costLimits.perRequest`: {said} (it is '{amount}')" in refused(tmp_path)


def test_objects_without_a_known_kind_are_passed_over(tmp_path: Path) -> None:
    assert load_manifests([written(tmp_path, "kind: [ModelPool]\napiVersion: foresail.dev/v1alpha1")]).pools == {}


def test_paths_that_hold_nothing_are_named(tmp_path: Path) -> None:
    assert refused(tmp_path) == f"{tmp_path} holds no *.yaml file"
    assert refused(tmp_path / "absent.yaml") == f"{tmp_path / 'absent.yaml'} does not exist"


def test_files_are_text_of_bounded_size(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_bytes(b"kind: \xff")
    assert "is not UTF-8 text: byte 6" in refused(path)
    path.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    assert f"is larger than {MAX_FILE_BYTES} bytes" in refused(path)


@pytest.mark.parametrize("folder", ["quickstart"])
def test_the_examples_can_be_served(folder: str) -> None:
    found = load_manifests([Path(__file__).parents[2] / "examples" / folder])
    policy = found.policy(None)
    compilation = compile_policy(policy, found.pool_of(policy), Target.LOCAL)
    assert compilation.problems == ()
    assert compilation.snapshot is not None
    assert compilation.snapshot.anonymous_allowed
