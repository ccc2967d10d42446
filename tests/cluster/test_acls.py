"""Names and passwords reach Kafka as they are meant, or not at all."""

import pytest

from cluster.acls import scram_arguments
from cluster.child import ClusterError


def test_users_become_arguments_of_the_format() -> None:
    assert scram_arguments({"admin": "a-B.9"}) == ["--add-scram", "SCRAM-SHA-512=[name=admin,password=a-B.9]"]


@pytest.mark.parametrize("password", ["", "a,iterations=1", "a]", 'a"; x="', "é", "a b"])
def test_a_password_that_kafka_would_read_otherwise_is_refused_and_not_shown(password: str) -> None:
    with pytest.raises(ClusterError, match="password of user gateway") as refused:
        scram_arguments({"gateway": password})
    assert not password or password not in str(refused.value)


def test_a_name_that_kafka_would_read_otherwise_is_refused() -> None:
    with pytest.raises(ClusterError, match="user: got 'a,b'"):
        scram_arguments({"a,b": "x"})
