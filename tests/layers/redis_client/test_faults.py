"""Each fault has words for the user, which repeat no secret, and a verdict on whether another attempt may help."""

import hiredis
import pytest

from channelmap.layers.redis.client import Topology, is_about_one_key, note_failure, read_hosts, unavailable
from channelmap.layers.redis.client.faults import Lost, Unreached, redirection, shown_cause, without_arguments
from channelmap.layers.redis.client.topology import Address, Cluster, SentinelService

ONE, SENTINEL = "redis://cache.example", "redis+sentinel://one/main"
#: The first slots belong to one node, the others to another one.
SLOTS = [[0, 8_191, [b"one", 7001]], [8_192, 16_383, [b"two", 7002]]]


def topology(url: str) -> Topology:
    (read,) = read_hosts([url])
    return read


@pytest.fixture
def cluster() -> Cluster:
    """A Cluster whose nodes are known."""
    cluster = topology("redis+cluster://seed")
    assert isinstance(cluster, Cluster)
    cluster.find("any", lambda *_: SLOTS)
    return cluster


def known_master() -> SentinelService:
    service = topology(SENTINEL)
    assert isinstance(service, SentinelService)
    service.find("any", lambda *_: [b"master", b"6379"])
    return service


def unreached(cause: Exception) -> Unreached:
    error = Unreached()
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (hiredis.ReplyError("WRONGPASS invalid username-password pair"), "check them in the URL"),
        (hiredis.ReplyError("NOAUTH Authentication required."), "the server asks for a password"),
        (hiredis.ReplyError("NOPERM User sesame has no permissions"), "the user may not do this"),
        (hiredis.ReplyError("OOM command not allowed"), "the server is out of memory"),
        (hiredis.ReplyError("READONLY You can't write"), "the server is a read-only replica"),
        (hiredis.ReplyError("MOVED 5 sesame:6379"), "the server is part of a Cluster; use redis+cluster://"),
        (hiredis.ReplyError("ERR unknown command 'BZMPOP', with args sesame"), "the server does not know a command"),
        (hiredis.ReplyError("ERR AUTH called without any password configured"), "the server has no password"),
        (hiredis.ReplyError("ODD thing"), "the server refused (ODD: thing)"),
        (Lost("the server closed the connection"), "the server closed the connection"),
        (unreached(TimeoutError()), "the server cannot be reached: no answer"),
        (unreached(FileNotFoundError()), "there is no such socket; is the server running?"),
        (unreached(ConnectionRefusedError()), "the connection was refused; is the server running?"),
        (unreached(OSError("Multiple exceptions: [Errno 111] Connection refused")), "the connection was refused"),
        (unreached(OSError("no route to host")), "no route to host"),
        (Unreached(), "Unreached"),
    ],
)
def test_a_fault_is_said_in_words(error: Exception, words: str) -> None:
    said = str(unavailable(topology(ONE), error))
    assert words in said
    assert "redis://cache.example:6379/0" in said
    assert "sesame" not in said


def test_only_a_fault_of_one_key_names_the_key() -> None:
    wrong_type, busy = hiredis.ReplyError("WRONGTYPE Operation"), hiredis.ReplyError("BUSY script")
    assert is_about_one_key(wrong_type)
    assert not is_about_one_key(busy)
    assert not is_about_one_key(Lost("WRONGTYPE"))
    assert "(key 'asgijobs')" in str(unavailable(topology(ONE), wrong_type, "asgijobs"))
    assert "asgijobs" not in str(unavailable(topology(ONE), busy, "asgijobs"))
    assert "(key" not in str(unavailable(topology(ONE), wrong_type))


def test_an_error_is_shown_without_the_arguments_that_it_repeats() -> None:
    error = hiredis.ReplyError("ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'sesame'")
    assert str(without_arguments(error)) == "ERR unknown command 'HELLO'"


def test_the_cause_of_an_error_is_a_servers_reply_never() -> None:
    lost = Lost("the connection was lost")
    assert shown_cause(lost) is lost
    assert shown_cause(hiredis.ReplyError("NOPERM User sesame")) is None


@pytest.mark.parametrize("text", ["MOVED 5 host:1", "READONLY replica", "ASK 5 host:1", "OOM"])
def test_a_single_server_is_not_tried_again_after_a_refusal(text: str) -> None:
    assert not note_failure(topology(ONE), hiredis.ReplyError(text))


def test_a_single_server_is_not_tried_again_when_it_is_not_reached() -> None:
    assert not note_failure(topology(ONE), Unreached())


@pytest.mark.parametrize("text", ["READONLY replica", "MASTERDOWN link", "UNBLOCKED force"])
def test_a_service_is_looked_up_again_when_a_former_master_refuses(text: str) -> None:
    service = known_master()
    assert note_failure(service, hiredis.ReplyError(text))
    assert service.known("any") is None


def test_a_service_that_is_not_reached_is_tried_again() -> None:
    service = known_master()
    assert note_failure(service, Unreached())
    assert service.known("any") is None


def test_a_command_that_may_have_been_executed_is_not_tried_again() -> None:
    service = known_master()
    assert not note_failure(service, Lost("the server closed the connection"))
    assert service.known("any") is None  # but the next command looks the master up


@pytest.mark.parametrize("text", ["OOM", "WRONGTYPE Operation", "BUSY script"])
def test_a_service_is_not_looked_up_again_for_other_refusals(text: str) -> None:
    service = known_master()
    assert not note_failure(service, hiredis.ReplyError(text))
    assert service.known("any") == Address("master", 6379)


def test_a_moved_slot_is_recorded_and_the_others_stay(cluster: Cluster) -> None:
    from redis.crc import key_slot

    key = "key"
    slot, before = key_slot(key.encode()), cluster.known(key)
    other = next(name for name in map(str, range(100)) if key_slot(name.encode()) != slot)
    other_before = cluster.known(other)
    assert note_failure(cluster, hiredis.ReplyError(f"MOVED {slot} three:7003"))
    assert before != cluster.known(key) == Address("three", 7003)
    assert cluster.known(other) == other_before
    # An empty host stands for the host of the node that answered.
    assert note_failure(cluster, hiredis.ReplyError(f"MOVED {slot} :7004"))
    assert cluster.known(key) == Address("three", 7004)


def test_a_moving_key_is_asked_for_elsewhere_once_and_nothing_is_forgotten(cluster: Cluster) -> None:
    before = cluster.known("key")
    assert before is not None
    asking = hiredis.ReplyError("ASK 5 three:7003")
    assert note_failure(cluster, asking)
    assert redirection(cluster, "key", asking) == Address("three", 7003)
    assert redirection(cluster, "key", hiredis.ReplyError("ASK 5 :7004")) == Address(before.host, 7004)
    assert redirection(cluster, "key", hiredis.ReplyError("MOVED 5 three:7003")) is None
    assert redirection(cluster, "key", Lost("lost")) is None
    assert cluster.known("key") == before
