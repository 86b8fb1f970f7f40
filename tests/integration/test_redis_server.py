from __future__ import annotations

from pathlib import Path

from tests.support.redis_server import command, redis_server


def test_a_packaged_redis_starts_without_an_installation_and_keeps_what_it_is_given(tmp_path: Path) -> None:
    with redis_server(tmp_path) as port:
        assert command(port, "SET", "key", "value") == b"+OK\r\n"
    with redis_server(tmp_path) as port:
        assert command(port, "GET", "key") == b"$5\r\nvalue\r\n"
