"""What is served follows its files: changes are taken, broken ones are not, what is taken away is gone."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.configurations import Object, learned, model, policy, pool, secret, write
from tests.support.counted_models import counted_by, tokenizer_content

from foresail_api.errors import UserError
from foresail_api.manifests import load_manifests
from foresail_api.snapshot import SnapshotEnvelope
from foresail_router.engine.interface import ScoreRequest, ScoreResult
from foresail_sidecar.configuration.artifacts import EngineUnavailable, LoadedRouter
from foresail_sidecar.configuration.reload import Inputs, Reloader
from foresail_sidecar.configuration.sources import ManifestSource, SnapshotSource
from foresail_sidecar.configuration.state import ArtifactFacts, ServingHolder, ServingState
from foresail_sidecar.tenants.keys import hash_of_key, new_key

DIGEST = "sha256:" + "a" * 64
OTHER_DIGEST = "sha256:" + "b" * 64
EMPTY_OBJECT = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


class NamedScorer:
    """A scorer that is only told apart from others."""

    async def score(self, request: ScoreRequest) -> ScoreResult:
        raise AssertionError("nobody asks it")


class Routers:
    """Loads a directory whose file `digest` holds the wanted digest; remembers which ones were closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.engine_missing = False
        self.loading = asyncio.Event()
        self.may_load = asyncio.Event()
        self.may_load.set()

    async def load(self, directory: Path, digest: str) -> LoadedRouter:
        self.loading.set()
        await self.may_load.wait()
        found = (directory / "digest").read_text() if (directory / "digest").exists() else "nothing"
        if found != digest:
            raise UserError(f"the artifact {directory} has not the digest {digest}")

        async def close() -> None:
            self.closed.append(digest)

        if self.engine_missing:
            raise EngineUnavailable("nobody is there")
        return LoadedRouter(NamedScorer(), ArtifactFacts(digest, "knn", ("cheap", "dear"), "dear", 20.0, 30.0), close)

    async def available(self) -> bool:
        return not self.engine_missing

    async def close(self) -> None:
        self.closed.append("all")


class Serving:
    """A reloader over the files of one folder."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "all.yaml"
        self.secrets = folder / "secrets"
        self.volume = folder / "volume"
        (self.volume / "router").mkdir(parents=True)
        self.secrets.mkdir()
        self.holder = ServingHolder()
        self.routers = Routers()
        self.reloader = self.reloading(ManifestSource([self.file], None))

    def reloading(self, source: ManifestSource | SnapshotSource) -> Reloader:
        inputs = Inputs(source, self.secrets, {"routers": self.volume}, self.routers)
        return Reloader(self.holder, inputs, interval_seconds=0.01)

    def write(self, *objects: Object) -> None:
        write(self.file, *objects)

    def credential(self, value: str | None, key: str = "a") -> None:
        (self.secrets / "keys").mkdir(exist_ok=True)
        file = self.secrets / "keys" / key
        file.write_text(value) if value is not None else file.unlink()

    def artifact(self, digest: str) -> None:
        (self.volume / "router" / "digest").write_text(digest)

    async def polled(self) -> ServingState:
        await self.reloader.poll()
        assert self.holder.current is not None
        return self.holder.current


@pytest.fixture
async def serving(tmp_path: Path) -> AsyncIterator[Serving]:
    serving = Serving(tmp_path)
    yield serving
    await serving.reloader.close()


CHEAP, DEAR = model("cheap"), model("dear", price="10")
BOTH = (pool([CHEAP, DEAR]), policy())


async def test_what_cannot_be_prepared_is_not_served(serving: Serving) -> None:
    prepared: list[str] = []

    async def prepare(state: ServingState) -> None:
        if state.snapshot.aliases != ("auto",):
            raise UserError("no room for it")
        prepared.append(state.snapshot_hash)

    inputs = Inputs(ManifestSource([serving.file], None), serving.secrets, {}, serving.routers)
    reloader = Reloader(serving.holder, inputs, prepare=prepare)
    serving.write(*BOTH)
    first = await reloader.start()
    assert prepared == [first.snapshot_hash]
    serving.write(pool([CHEAP, DEAR]), policy(aliases=["smart"]))
    await reloader.poll()
    assert serving.holder.current is first
    assert serving.holder.configuration_error == "no room for it"
    await reloader.close()


async def test_a_change_is_served_under_the_next_sequence_number(serving: Serving) -> None:
    serving.write(*BOTH)
    first = await serving.reloader.start()
    assert await serving.polled() is first
    serving.write(pool([CHEAP, DEAR]), policy(aliases=["auto", "smart"]))
    second = await serving.polled()
    assert (first.sequence, second.sequence) == (1, 2)
    assert second.snapshot.aliases == ("auto", "smart")
    assert second.snapshot_hash == second.snapshot.content_hash() != first.snapshot_hash


async def test_a_change_that_means_nothing_keeps_the_sequence_number(serving: Serving) -> None:
    serving.write(*BOTH)
    await serving.reloader.start()
    serving.file.write_text(serving.file.read_text() + "\n# a comment\n")
    assert (await serving.polled()).sequence == 1


async def test_a_broken_change_keeps_serving_and_is_counted_and_logged_once(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    serving.write(*BOTH)
    first = await serving.reloader.start()
    for broken in ("kind: [", serving.file.read_text().replace("Cheapest", "Cheap")):
        serving.file.write_text(broken)
        with caplog.at_level(logging.ERROR):
            assert await serving.polled() is first
            assert await serving.polled() is first
    assert serving.holder.configuration_errors == 2
    assert "spec.router.strategy" in (serving.holder.configuration_error or "")
    assert [record.getMessage() for record in caplog.records] == ["configuration refused"] * 2
    serving.write(*BOTH)
    await serving.polled()
    assert serving.holder.configuration_error is None


async def test_what_is_taken_away_is_gone_though_policy_and_pool_do_not_fit_together(serving: Serving) -> None:
    serving.write(*BOTH)
    await serving.reloader.start()
    serving.write(pool([DEAR]), policy(aliases=["dear"], tenants={"anonymous": "Deny"}))
    state = await serving.polled()
    assert [model.name for model in state.snapshot.models] == ["dear"]
    assert not state.snapshot.anonymous_allowed
    assert state.snapshot.aliases == ("auto",)
    assert "choose another alias" in (serving.holder.configuration_error or "")
    assert await serving.polled() is state


async def test_nothing_is_served_when_a_broken_change_takes_every_model_away(serving: Serving) -> None:
    serving.write(*BOTH)
    await serving.reloader.start()
    serving.write(pool([model("other")]), policy(aliases=["other"]))
    await serving.reloader.poll()
    assert serving.holder.current is None
    serving.write(*BOTH)
    await serving.polled()


async def test_a_start_without_anything_to_serve_says_why(serving: Serving) -> None:
    serving.write(pool([CHEAP]))
    with pytest.raises(UserError, match=r"no RoutingPolicy in .*all\.yaml"):
        await serving.reloader.start()
    serving.write(policy())
    with pytest.raises(UserError, match="ModelPool 'pool' does not exist"):
        await serving.reloader.start()
    backend = model("cheap") | {"upstreams": [{"name": "main", "backendRef": {"name": "vllm", "port": 8000}}]}
    serving.write(pool([backend]), policy())
    with pytest.raises(UserError, match="use `url` with `foresail serve`"):
        await serving.reloader.start()


async def test_a_pool_that_was_taken_away_is_not_served_any_longer(serving: Serving) -> None:
    serving.write(*BOTH)
    first = await serving.reloader.start()
    serving.write(policy())
    assert await serving.polled() is first, "an editor may be replacing the file"
    await serving.reloader.poll()
    assert serving.holder.current is None
    assert "ModelPool 'pool' does not exist" in (serving.holder.configuration_error or "")
    serving.write(*BOTH)
    assert (await serving.polled()).snapshot == first.snapshot


async def test_a_file_that_is_back_at_the_next_look_was_not_taken_away(serving: Serving) -> None:
    serving.write(*BOTH)
    await serving.reloader.start()
    serving.write(policy())
    await serving.reloader.poll()
    serving.write(*BOTH)
    await serving.reloader.poll()
    serving.write(policy())
    assert await serving.polled()


SECURED = pool([model("cheap", secret=("keys", "a")), model("dear", secret=("keys", "b"))])


async def test_credentials_of_the_directory_win_and_are_followed(serving: Serving) -> None:
    serving.write(SECURED, policy(), secret({"a": "manifest-a", "b": "manifest-b"}))
    serving.credential("file-a\n")
    state = await serving.reloader.start()
    assert state.credentials == {("keys", "a"): "file-a", ("keys", "b"): "manifest-b"}
    assert state.models_without_credentials() == frozenset()
    serving.credential("rotated\n")
    assert (await serving.polled()).credentials["keys", "a"] == "rotated"
    serving.credential(None)
    assert (await serving.polled()).credentials["keys", "a"] == "manifest-a"


async def test_a_revoked_credential_is_gone_even_while_the_manifests_are_broken(serving: Serving) -> None:
    serving.write(SECURED, policy())
    serving.credential("file-a")
    serving.credential("file-b", key="b")
    await serving.reloader.start()
    serving.file.write_text("kind: [")
    serving.credential(None)
    state = await serving.polled()
    assert state.models_without_credentials() == {"cheap"}
    assert state.credentials == {("keys", "b"): "file-b"}
    assert serving.holder.configuration_errors == 1
    assert any("'cheap' is left out: no credential keys/a" in warning for warning in serving.reloader.warnings)


KEYED = {"apiKeys": {"secretRef": {"name": "keys"}}}


def line(key: str, tenant: str) -> str:
    return f"{hash_of_key(key)} tenant={tenant}"


async def test_tenants_keys_come_and_go_with_their_files(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    first, second = new_key(), new_key()
    serving.write(pool([CHEAP, DEAR]), policy(tenants=KEYED))
    serving.credential(line(first, "team-a"))
    state = await serving.reloader.start()
    assert state.tenants.tenant_of(first, 0) == "team-a"
    serving.credential(line(second, "team-b"), key="b")
    state = await serving.polled()
    assert [state.tenants.tenant_of(key, 0) for key in (first, second)] == ["team-a", "team-b"]
    serving.credential(None)
    state = await serving.polled()
    assert [state.tenants.tenant_of(key, 0) for key in (first, second)] == [None, "team-b"]
    with caplog.at_level(logging.WARNING):
        serving.credential("no line of a key", key="b")
        state = await serving.polled()
    assert state.tenants.tenant_of(second, 0) is None
    assert any("Secret keys, entry 'b': does not begin with a hash" in told for told in serving.reloader.warnings)
    assert any("no API key is valid" in told for told in serving.reloader.warnings)


async def test_a_key_in_a_manifest_is_revoked_though_policy_and_pool_do_not_fit_together(serving: Serving) -> None:
    kept, revoked = new_key(), new_key()
    keys = {"a": line(kept, "team-a"), "b": line(revoked, "team-b")}
    rules = [{"name": "team-a", "models": ["cheap", "dear"]}]
    serving.write(pool([CHEAP, DEAR]), policy(tenants=KEYED | {"rules": rules}), secret(keys))
    await serving.reloader.start()
    fewer = [{"name": "team-a", "models": ["dear"]}, {"name": "team-c", "models": ["cheap"]}]
    broken = policy(aliases=["dear"], tenants=KEYED | {"rules": fewer})
    serving.write(pool([CHEAP, DEAR]), broken, secret({"a": keys["a"]}))
    state = await serving.polled()
    assert serving.holder.configuration_error is not None
    assert state.snapshot.tenants.models == {"team-a": ("dear",), "team-c": ("cheap",)}
    assert [state.tenants.tenant_of(key, 0) for key in (kept, revoked)] == ["team-a", None]
    serving.write(pool([CHEAP, DEAR]), policy(aliases=["dear"]), secret(keys))
    state = await serving.polled()
    assert state.snapshot.tenants.secret_name is None
    assert state.tenants.tenant_of(kept, 0) is None


async def test_credentials_do_not_show(serving: Serving) -> None:
    serving.write(SECURED, policy(), secret({"a": "sk-hidden"}))
    assert "sk-hidden" not in repr(await serving.reloader.start())


async def test_an_older_snapshot_never_replaces_a_newer_one(serving: Serving, tmp_path: Path) -> None:
    serving.write(*BOTH)
    snapshot = ManifestSource([serving.file], None).load().snapshot
    renamed = snapshot.model_copy(update={"aliases": ("smart",)})
    path = tmp_path / "snapshot.json"
    path.write_text(SnapshotEnvelope.seal(snapshot, 7).to_json())
    serving.reloader = serving.reloading(SnapshotSource(path))
    assert (await serving.reloader.start()).sequence == 7
    for sequence in (6, 7):
        path.write_text(SnapshotEnvelope.seal(renamed, sequence).to_json())
        assert (await serving.polled()).snapshot.aliases == ("auto",)
        assert f"has the sequence number {sequence}, but 7" in (serving.holder.configuration_error or "")
    path.write_text(SnapshotEnvelope.seal(renamed, 8).to_json())
    assert (await serving.polled()).snapshot.aliases == ("smart",)
    path.write_text("{")
    assert (await serving.polled()).sequence == 8


def routed(digest: str = DIGEST, models: list[Object] | None = None, **router: str) -> tuple[Object, Object]:
    return pool(models or [CHEAP, DEAR]), policy(router=learned(digest, **router))


async def test_an_artifact_is_loaded_from_its_volume(serving: Serving) -> None:
    serving.artifact(DIGEST)
    serving.write(*routed())
    state = await serving.reloader.start()
    assert state.artifact_error is None
    assert state.scorer is not None
    assert state.artifact is not None
    assert state.artifact.digest == DIGEST


async def test_a_missing_artifact_is_served_without_and_taken_when_it_comes(serving: Serving) -> None:
    serving.write(*routed())
    state = await serving.reloader.start()
    assert state.scorer is None
    assert f"has not the digest {DIGEST}" in (state.artifact_error or "")
    assert any("every decision falls back and says so" in warning for warning in serving.reloader.warnings)
    serving.artifact(DIGEST)
    state = await serving.polled()
    assert state.artifact_error is None
    assert state.scorer is not None


async def test_an_engine_that_comes_later_is_used(serving: Serving) -> None:
    serving.artifact(DIGEST)
    serving.routers.engine_missing = True
    serving.write(*routed())
    state = await serving.reloader.start()
    assert "nobody is there" in (state.artifact_error or "")
    assert await serving.polled() is state
    serving.routers.engine_missing = False
    assert (await serving.polled()).scorer is not None


async def test_a_new_artifact_that_cannot_be_loaded_keeps_the_old_one_until_it_can(serving: Serving) -> None:
    serving.artifact(DIGEST)
    serving.write(*routed())
    first = await serving.reloader.start()
    serving.write(*routed(OTHER_DIGEST))
    assert await serving.polled() is first
    assert serving.holder.configuration_errors == 1
    serving.artifact(OTHER_DIGEST)
    state = await serving.polled()
    assert state.artifact is not None
    assert state.artifact.digest == OTHER_DIGEST
    assert serving.holder.configuration_error is None


async def test_a_model_that_was_taken_away_is_gone_even_if_the_new_artifact_is_missing(serving: Serving) -> None:
    serving.artifact(DIGEST)
    serving.write(*routed())
    await serving.reloader.start()
    serving.write(*routed(OTHER_DIGEST, models=[CHEAP]))
    state = await serving.polled()
    assert [model.name for model in state.snapshot.models] == ["cheap"]
    assert state.artifact_error is not None


async def test_a_key_is_revoked_also_while_an_artifact_is_loaded(serving: Serving) -> None:
    key = new_key()
    serving.artifact(DIGEST)
    serving.write(pool([CHEAP, DEAR]), policy(tenants=KEYED, router=learned(DIGEST)))
    serving.credential(line(key, "team-a"))
    state = await serving.reloader.start()
    assert state.tenants.tenant_of(key, 0) == "team-a"
    serving.artifact(OTHER_DIGEST)
    serving.routers.may_load.clear()
    serving.write(pool([CHEAP, DEAR]), policy(tenants=KEYED, router=learned(OTHER_DIGEST)))
    polling = asyncio.create_task(serving.polled())
    async with asyncio.timeout(10):
        await serving.routers.loading.wait()
        serving.credential(None)
        while serving.holder.current is state:  # noqa: ASYNC110  the files are looked at, time after time
            await asyncio.sleep(0.01)
        assert serving.holder.current.tenants.tenant_of(key, 0) is None
        assert not polling.done()
        serving.routers.may_load.set()
        state = await polling
    assert state.snapshot.router.artifact is not None
    assert state.snapshot.router.artifact.digest == OTHER_DIGEST
    assert state.tenants.tenant_of(key, 0) is None


async def test_an_end_does_not_wait_for_an_artifact(serving: Serving) -> None:
    serving.artifact(DIGEST)
    serving.routers.may_load.clear()
    serving.write(*routed())
    starting = asyncio.create_task(serving.reloader.start())
    await serving.routers.loading.wait()
    starting.cancel()
    await asyncio.wait([starting], timeout=10)
    assert starting.cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_same_artifact_is_not_loaded_again(serving: Serving) -> None:
    serving.artifact(DIGEST)
    serving.write(*routed())
    first = await serving.reloader.start()
    serving.write(*routed(failureMode="FailClose"))
    second = await serving.polled()
    assert second.scorer is first.scorer
    assert serving.routers.closed == []


async def test_a_replaced_scorer_is_closed_after_the_last_request_that_uses_it(serving: Serving) -> None:
    serving.artifact(DIGEST)
    serving.write(*routed())
    await serving.reloader.start()
    with serving.holder.in_use() as state:
        serving.artifact(OTHER_DIGEST)
        serving.write(*routed(OTHER_DIGEST))
        assert (await serving.polled()).scorer is not (state and state.scorer)
        await asyncio.sleep(0)
        assert serving.routers.closed == []
    for _ in range(5):
        await asyncio.sleep(0)
    assert serving.routers.closed == [DIGEST]
    await serving.reloader.close()
    assert serving.routers.closed == [DIGEST, OTHER_DIGEST, "all"]


async def test_an_artifact_stays_inside_of_its_volume(serving: Serving, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "digest").write_text(DIGEST)
    (serving.volume / "link").symlink_to(outside)
    serving.write(pool([CHEAP, DEAR]), policy(router=learned(DIGEST, path="link")))
    assert "leaves its volume" in ((await serving.reloader.start()).artifact_error or "")


async def test_an_artifact_in_a_directory_of_this_machine(serving: Serving) -> None:
    serving.artifact(DIGEST)
    artifact = {"uri": f"file://{serving.volume}/router", "digest": DIGEST}
    serving.write(pool([CHEAP, DEAR]), policy(router={"strategy": "Learned", "artifact": artifact}))
    state = await serving.reloader.start()
    assert state.artifact is not None
    artifact["uri"] = "file:///absent"
    artifact["digest"] = OTHER_DIGEST
    serving.write(pool([CHEAP, DEAR]), policy(router={"strategy": "Learned", "artifact": artifact}))
    assert await serving.polled() is state
    assert "the artifact /absent does not exist" in (serving.holder.configuration_error or "")


async def test_a_volume_that_is_not_mapped_is_named_with_the_flag(serving: Serving) -> None:
    serving.write(pool([CHEAP, DEAR]), policy(router=learned(DIGEST, claim="elsewhere")))
    assert "--volume-claim elsewhere=DIR" in ((await serving.reloader.start()).artifact_error or "")


async def test_looking_goes_on_after_a_broken_change(serving: Serving) -> None:
    serving.write(*BOTH)
    changes = iter(["kind: [", None])
    looks = asyncio.Event()

    async def sleep(seconds: float) -> None:
        assert seconds == 0.5
        change = next(changes, "done")
        if change == "done":
            looks.set()
            await asyncio.Event().wait()
        serving.file.write_text(change) if change else serving.write(pool([CHEAP]), policy())

    inputs = Inputs(ManifestSource([serving.file], None), None, {}, serving.routers)
    reloader = Reloader(serving.holder, inputs, interval_seconds=0.5, sleep=sleep)
    await reloader.start()
    running = asyncio.create_task(reloader.run())
    async with asyncio.timeout(10):
        await looks.wait()
    running.cancel()
    assert serving.holder.configuration_errors == 1
    assert serving.holder.current is not None
    assert len(serving.holder.current.snapshot.models) == 1


def test_the_manifests_of_these_tests_are_valid(tmp_path: Path) -> None:
    assert load_manifests([write(tmp_path / "a.yaml", *BOTH, secret({"a": "b"}))]).policies


def about_tokenizers(serving: Serving) -> list[str]:
    return [warning for warning in serving.reloader.warnings if "tokenizer" in warning]


async def test_a_tokenizer_that_is_not_there_is_told_and_taken_when_it_comes(serving: Serving) -> None:
    file = serving.volume / "small.json"
    on_volume = {"name": "routers", "path": "small.json"}
    serving.write(pool([CHEAP | {"tokenCount": counted_by(on_volume)}, DEAR]), policy())
    state = await serving.reloader.start()
    assert state.tokenizers == {}
    (warning,) = about_tokenizers(serving)
    assert warning.startswith(f"the model 'cheap': its tokenizer {file} cannot be read")
    assert "the bytes of its prompts are counted" in warning
    assert await serving.polled() is state
    file.write_bytes(tokenizer_content())
    state = await serving.polled()
    (counter,) = state.tokenizers.values()
    assert counter.count("hello world") == 4
    assert about_tokenizers(serving) == []
    # Neither another change nor the end of the file takes away what was checked.
    file.unlink()
    serving.write(pool([CHEAP | {"tokenCount": counted_by(on_volume)}, DEAR]), policy(aliases=["smart"]))
    assert list((await serving.polled()).tokenizers.values()) == [counter]
    serving.write(*BOTH)
    assert (await serving.polled()).tokenizers == {}


async def test_a_tokenizer_that_comes_while_a_change_is_broken_is_taken_once(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    file = serving.volume / "small.json"
    serving.write(pool([CHEAP | {"tokenCount": counted_by({"name": "routers", "path": "small.json"})}, DEAR]), policy())
    await serving.reloader.start()
    serving.file.write_text("kind: [")
    await serving.polled()
    errors = serving.holder.configuration_errors
    file.write_bytes(tokenizer_content())
    state = await serving.polled()
    assert len(state.tokenizers) == 1
    for _ in range(3):
        assert await serving.polled() is state
    assert serving.holder.configuration_errors == errors
    assert serving.holder.configuration_error is not None


async def test_a_tokenizer_is_taken_whose_file_keeps_size_and_time_of_a_wrong_one(serving: Serving) -> None:
    """As with copies that keep times, and images whose files are all of one time."""
    file = serving.volume / "small.json"
    file.write_bytes(bytes(len(tokenizer_content())))
    os.utime(file, ns=(0, 0))
    serving.write(pool([CHEAP | {"tokenCount": counted_by({"name": "routers", "path": "small.json"})}, DEAR]), policy())
    assert (await serving.reloader.start()).tokenizers == {}
    file.write_bytes(tokenizer_content())
    os.utime(file, ns=(0, 0))
    assert len((await serving.polled()).tokenizers) == 1


async def test_a_tokenizer_that_is_in_one_of_two_places_is_enough(serving: Serving) -> None:
    (serving.volume / "small.json").write_bytes(tokenizer_content())
    there, gone = (counted_by({"name": "routers", "path": path}) for path in ("small.json", "gone.json"))
    serving.write(pool([CHEAP | {"tokenCount": gone}, DEAR | {"tokenCount": there}]), policy())
    assert len((await serving.reloader.start()).tokenizers) == 1
    assert about_tokenizers(serving) == []


async def test_a_file_that_the_library_of_tokenizers_breaks_at_is_told_as_any_other(serving: Serving) -> None:
    definition = json.loads(tokenizer_content()) | {
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    }
    content = json.dumps(definition).encode()
    (serving.volume / "small.json").write_bytes(content)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    declared = counted_by({"name": "routers", "path": "small.json"}, digest)
    serving.write(pool([CHEAP | {"tokenCount": declared}, DEAR]), policy())
    assert (await serving.reloader.start()).tokenizers == {}
    (warning,) = about_tokenizers(serving)
    assert "is no tokenizer.json" in warning


async def test_a_pipe_in_place_of_a_tokenizer_is_not_waited_for(serving: Serving) -> None:
    os.mkfifo(serving.volume / "small.json")
    serving.write(pool([CHEAP | {"tokenCount": counted_by({"name": "routers", "path": "small.json"})}, DEAR]), policy())
    async with asyncio.timeout(30):
        assert (await serving.reloader.start()).tokenizers == {}
    (warning,) = about_tokenizers(serving)
    assert "small.json is no file; name a tokenizer.json" in warning


@pytest.mark.parametrize(
    ("content", "where", "digest", "words"),
    [
        (b"{}", "file", None, "has the digest sha256:44136fa3"),
        (b"{}", "file", EMPTY_OBJECT, "is no tokenizer.json; name the file that the model's makers publish"),
        (
            b"{}",
            {"name": "elsewhere", "path": "small.json"},
            None,
            "say where that is with --volume-claim elsewhere=DIR",
        ),
        (b"{}", {"name": "routers", "path": "out"}, None, "leaves its volume"),
        (None, "file", None, "cannot be read (No such file or directory); put it there"),
    ],
    ids=["another file", "no tokenizer", "another volume", "outside", "nothing"],
)
async def test_a_tokenizer_that_cannot_be_used_is_told(
    serving: Serving, content: bytes | None, where: str | Object, digest: str | None, words: str
) -> None:
    file = serving.volume / "small.json"
    if content is not None:
        file.write_bytes(content)
    (serving.volume / "out").symlink_to(serving.file)
    declared = counted_by(file if isinstance(where, str) else where, digest)
    serving.write(pool([CHEAP | {"tokenCount": declared}, DEAR]), policy())
    assert (await serving.reloader.start()).tokenizers == {}
    (warning,) = about_tokenizers(serving)
    assert words in warning
