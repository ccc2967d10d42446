"""A real Redis: it keeps what it was told, and opens to whoever may enter."""

import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cluster.child import ClusterError
from cluster.redis_server import RedisServer, RedisSettings, RedisUser

HOME = Path(__file__).resolve().parent.parent.parent
PARENT = """
import os, signal, sys
from pathlib import Path
from cluster.redis_server import RedisServer, RedisSettings
server = RedisServer(RedisSettings(Path(sys.argv[1])))
server.start()
print(server.child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_writes_outlive_a_kill_and_an_orderly_end(redis_server: RedisServer, prefix: str) -> None:
    for end in (redis_server.kill, redis_server.stop):
        address = redis_server.url
        with redis.Redis(**redis_server.client()) as connection:
            connection.incr(prefix + "n")
            connection.hset(prefix + "hash", "blob", bytes(range(256)))
        end()
        redis_server.start()
        assert redis_server.url == address
    with redis.Redis.from_url(redis_server.url) as connection:
        assert connection.get(prefix + "n") == b"2"
        assert connection.hget(prefix + "hash", "blob") == bytes(range(256))


def test_a_restart_is_another_process_with_the_same_data(redis_server: RedisServer, prefix: str) -> None:
    first = redis_server.child.pid
    with redis.Redis(**redis_server.client()) as connection:
        connection.set(prefix + "a", "1")
    redis_server.restart()
    assert redis_server.child.pid != first
    with redis.Redis(**redis_server.client()) as connection:
        assert connection.get(prefix + "a") == b"1"


def test_a_worker_reaches_its_own_keys_and_channels_alone(secure_redis: RedisServer, prefix: str) -> None:
    with redis.Redis(**secure_redis.client("worker")) as connection:
        assert connection.set(prefix + "a", "1")
        assert connection.publish(prefix + "news", "1") == 0
        with pytest.raises(redis.exceptions.NoPermissionError):
            connection.set("closed", "1")
        with pytest.raises(redis.exceptions.NoPermissionError):
            connection.publish("closed", "1")
    with redis.Redis(**secure_redis.client()) as connection:
        assert connection.get("closed") is None
        assert connection.get(prefix + "a") == b"1"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"password": "of-nobody"}, redis.AuthenticationError),
        ({"username": None, "password": None}, redis.AuthenticationError),
        ({"ssl_ca_certs": ssl.get_default_verify_paths().cafile}, redis.ConnectionError),
        ({"ssl": False}, redis.ConnectionError),
    ],
    ids=["password", "no user", "authority", "no TLS"],
)
def test_who_is_not_known_is_refused(secure_redis: RedisServer, change: dict[str, Any], error: type) -> None:
    client = secure_redis.client("worker") | change
    if not client["ssl"]:
        del client["ssl"], client["ssl_ca_certs"]
    once = Retry(NoBackoff(), 0)
    with redis.Redis(**client, retry=once) as connection, pytest.raises(error):
        connection.ping()


def test_no_password_lies_in_a_file_or_shows_in_words(secure_redis: RedisServer) -> None:
    folder = secure_redis.settings.folder
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"of-the-" in path.read_bytes()]
    assert (folder / "users.acl").stat().st_mode & 0o777 == 0o600
    assert "of-the-" not in repr(secure_redis.settings)


def test_a_user_with_a_blank_is_refused_and_his_password_is_not_shown() -> None:
    with pytest.raises(ClusterError, match="expected words without blanks") as refused:
        RedisUser("worker", "secret ~*").rule()
    assert "secret" not in str(refused.value)


def test_a_user_without_a_password_here_is_named(secure_redis: RedisServer) -> None:
    with pytest.raises(ClusterError, match="got 'stranger', expected one of admin, worker"):
        secure_redis.client("stranger")


def test_a_server_that_cannot_start_says_why(redis_server: RedisServer, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=f"got {redis_server.port}, on which another program listens"):
        RedisServer(RedisSettings(tmp_path, port=redis_server.port)).start()
    (tmp_path / "appendonlydir").write_text("in the way")
    with pytest.raises(ClusterError, match=r"the Redis server ended with code 1; (?s:.*)append-only dir"):
        RedisServer(RedisSettings(tmp_path)).start()


@pytest.mark.usefixtures("redis_program")
def test_no_server_outlives_its_parent(tmp_path: Path, ends: Callable[[psutil.Process], bool]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PARENT, str(tmp_path)], cwd=HOME, capture_output=True, text=True
    )
    assert done.returncode == -9, done.stderr
    try:
        server = psutil.Process(int(done.stdout))
    except psutil.NoSuchProcess:
        return
    assert ends(server)
