"""A topology finds the server of a key, and asks the next Sentinel or node when one does not know."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from channelmap.layers.redis.client import Topology
from channelmap.layers.redis.client.topology import TAGS, Address, Cluster, SentinelService, SingleServer

HALVES = [[0, 8_191, [b"one", 7001]], [8_192, 16_383, [b"two", 7002]]]
ONE, TWO = Address("one", 7001), Address("two", 7002)


def answers(by_host: dict[str, Any]) -> Any:
    """Return a function that answers for each host; an exception is raised."""
    asked: list[str] = []

    def ask(topology: Topology, address: Address, command: Sequence[Any]) -> Any:
        asked.append(address.host)
        answer = by_host[address.host]
        if isinstance(answer, Exception):
            raise answer
        return answer

    ask.asked = asked  # type: ignore[attr-defined]  # read by tests
    return ask


def service(*hosts: str) -> SentinelService:
    return SentinelService("url", {}, "main", [SingleServer(host, {}, Address(host)) for host in hosts])


class TestSingleServer:
    server = SingleServer("url", {}, Address("host"))

    def test_its_address_is_always_known(self) -> None:
        self.server.forget()
        assert self.server.known("any") == self.server.find("any", answers({})) == Address("host")
        assert self.server.nodes(answers({})) == [Address("host")]
        assert not self.server.has_left(Address("other"))

    def test_one_command_may_name_all_of_its_keys(self) -> None:
        assert self.server.key("asgi", "jobs") == "asgijobs"
        assert self.server.hash_tag("asgijobs") == self.server.hash_tag("other") == ""
        assert self.server.key_prefix("asgi") == "asgi"


class TestSentinelService:
    def test_the_next_sentinel_is_asked_when_one_fails_or_does_not_know(self) -> None:
        ask = answers({"dead": OSError("away"), "empty": None, "good": [b"master", b"6380"]})
        found = service("dead", "empty", "good")
        assert found.known("any") is None
        assert found.find("any", ask) == found.known("any") == Address("master", 6380)
        assert ask.asked == ["dead", "empty", "good"]

    def test_the_sentinel_that_answered_is_asked_first_next_time(self) -> None:
        ask = answers({"dead": OSError("away"), "good": [b"master", b"6380"]})
        found = service("dead", "good")
        for _ in range(2):
            found.find("any", ask)
        assert ask.asked == ["dead", "good", "good"]

    def test_the_last_error_is_raised_when_none_answers(self) -> None:
        with pytest.raises(OSError, match="second"):
            service("a", "b").find("any", answers({"a": OSError("first"), "b": OSError("second")}))
        with pytest.raises(ConnectionError, match="no sentinel knows this service"):
            service("a", "b").find("any", answers({"a": None, "b": None}))

    def test_a_former_master_is_recognized(self) -> None:
        found = service("good")
        assert not found.has_left(Address("old"))
        found.find("any", answers({"good": [b"new", b"6379"]}))
        assert found.has_left(Address("old"))
        assert not found.has_left(Address("new"))
        found.forget()
        assert not found.has_left(Address("old"))


def test_two_threads_may_look_up_the_master_at_the_same_time() -> None:
    sentinels = [SingleServer(f"sentinel {number}", {}, Address("host", number)) for number in range(2)]
    found_service = SentinelService("url", {}, "main", sentinels)
    both = threading.Barrier(2, timeout=10)

    class Meeting(list[SingleServer]):
        def remove(self, sentinel: SingleServer) -> None:
            super().remove(sentinel)
            both.wait()

    found_service._sentinels = Meeting(sentinels)

    def ask(*_: Any) -> Any:
        both.wait()
        return [b"host", b"6379"]

    found: list[Address] = []
    threads = [threading.Thread(target=lambda: found.append(found_service.find("", ask))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [Address("host", 6379)] * 2
    assert sorted(found_service._sentinels, key=id) == sorted(sentinels, key=id)


class TestCluster:
    def cluster(self, *seeds: str) -> Cluster:
        return Cluster("url", {}, [Address(seed) for seed in seeds])

    def test_a_key_is_on_the_node_that_has_its_slot(self) -> None:
        cluster = self.cluster("seed")
        ask = answers({"seed": HALVES})
        assert cluster.known("foo") is None
        assert cluster.find("foo", ask) == TWO  # slot 12182
        assert cluster.known("hello") == ONE  # slot 866
        assert cluster.nodes(ask) == [ONE, TWO]

    def test_a_node_that_fails_or_knows_no_slots_is_passed_over(self) -> None:
        ask = answers({"dead": OSError("away"), "removed": [], "partial": [HALVES[0]], "good": HALVES})
        assert self.cluster("dead", "removed", "partial", "good").find("foo", ask) == TWO
        assert ask.asked == ["dead", "removed", "partial", "good"]

    def test_the_nodes_are_asked_before_the_seeds_next_time(self) -> None:
        cluster = self.cluster("seed")
        cluster.find("foo", answers({"seed": HALVES}))
        ask = answers({"one": HALVES})
        cluster.find("foo", ask)
        assert ask.asked == ["one"]

    def test_a_node_without_a_name_is_the_one_that_answered(self) -> None:
        assert self.cluster("seed").find("foo", answers({"seed": [[0, 16_383, [b"", 7001]]]})) == Address("seed", 7001)

    @pytest.mark.parametrize(
        ("answer", "problem"), [([], "has no node for the slot"), ([HALVES[0]], "has no node for the slot")]
    )
    def test_a_slot_without_a_node_is_an_error(self, answer: Any, problem: str) -> None:
        with pytest.raises(ConnectionError, match=problem):
            self.cluster("seed").find("foo", answers({"seed": answer}))

    def test_a_former_node_is_recognized(self) -> None:
        cluster = self.cluster("seed")
        assert not cluster.has_left(Address("old"))
        cluster.find("foo", answers({"seed": HALVES}))
        assert cluster.has_left(Address("old"))
        assert not cluster.has_left(TWO)

    def test_names_share_a_fixed_number_of_hash_tags(self) -> None:
        cluster = self.cluster("seed")
        keys = [cluster.key("asgi", f"name-{number}") for number in range(2_000)]
        tags = {cluster.hash_tag(key) for key in keys}
        assert len(tags) == TAGS
        assert all(key.startswith(cluster.key_prefix("asgi")) for key in keys)
        # Further keys of a name have the same tag.
        assert cluster.hash_tag(keys[0] + "$until") == cluster.hash_tag(keys[0])
