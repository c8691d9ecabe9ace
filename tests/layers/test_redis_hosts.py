"""Where the layer in Redis finds its servers: in URLs, in every form that channels_redis takes, and securely."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from channelmap.errors import LayerUnavailable
from channelmap.layer import ChannelLayer
from channelmap.layers import open_layer
from channelmap.layers.redis import RedisChannelLayer

from .conformance import event, numbers
from .redis_servers import TLS, Sentinels, Server


def works(layer: ChannelLayer, server: Server) -> bool:
    """It sends both ways and takes, and does so on that server."""

    async def main() -> bool:
        async with asyncio.timeout(20):
            await layer.send("jobs", event(1))
            layer.send_sync("jobs", event(2))
            there = server.client.zcard("asgijobs") == 2
            taken = numbers(await layer.take("jobs", 9))
            await layer.close()
            return there and taken == [1, 2]

    return asyncio.run(main())


@pytest.mark.parametrize(
    "form",
    [
        lambda server: server.url,
        lambda server: f"unix://{server.socket}?db=0",
        lambda server: ("127.0.0.1", server.port),
        lambda server: ["127.0.0.1", server.port],
        lambda server: {"host": "127.0.0.1", "port": server.port, "db": 0},
        lambda server: {"address": server.url, "socket_timeout": None},
        lambda server: {"address": server.url, "socket_timeout": 3, "socket_keepalive": True},
    ],
    ids=["url", "unix", "tuple", "list", "dict", "address", "address and arguments"],
)
def test_hosts_are_given_in_all_the_forms_of_channels_redis(server: Server, form: Callable[[Server], Any]) -> None:
    assert works(RedisChannelLayer(hosts=[form(server)]), server)


def test_a_service_of_sentinel_is_given_as_in_channels_redis(sentinels: Sentinels) -> None:
    address = ("127.0.0.1", sentinels.sentinel.port)
    host = {"sentinels": [address], "master_name": sentinels.SERVICE, "db": 0, "sentinel_kwargs": {}}
    assert works(RedisChannelLayer(hosts=[host]), sentinels.master)


@pytest.mark.parametrize("hosts", ["redis://localhost", b"redis://localhost"])
def test_a_host_that_is_no_list_is_refused_in_the_words_of_channels_redis(hosts: Any) -> None:
    with pytest.raises(ValueError, match=r"^You must pass a list of Redis hosts, even if there is only one\.$"):
        RedisChannelLayer(hosts=hosts)


def test_keys_that_are_no_list_are_refused_in_the_words_of_channels_redis() -> None:
    with pytest.raises(ValueError, match="^symmetric_encryption_keys must be a list of possible keys$"):
        RedisChannelLayer(symmetric_encryption_keys="secret")


def test_a_unix_socket_has_a_url(server: Server) -> None:
    assert works(open_layer(f"unix://{server.socket}"), server)


def test_a_database_of_another_number_is_another(server: Server) -> None:
    layer = open_layer(server.url.removesuffix("0") + "3")
    layer.send_sync("jobs", event(1))
    asyncio.run(layer.close())
    assert server.client.dbsize() == 0


@pytest.mark.parametrize("user", ["", "default"])
def test_a_password_opens_and_is_not_repeated(start_server: Callable[..., Server], user: str) -> None:
    server = start_server(password="open/sesame")
    layer = open_layer(f"redis://{user}:open%2Fsesame@{server.address}/0")
    assert works(layer, server)
    assert "sesame" not in layer.url + repr(layer)
    assert server.address in layer.url


def test_a_user_of_his_own_opens(start_server: Callable[..., Server]) -> None:
    server = start_server()
    server.client.acl_setuser("worker", enabled=True, passwords=["+pass"], keys=["asgi*"], categories=["+@all"])
    layer = open_layer(f"redis://worker:pass@{server.address}/0")
    assert works(layer, server)
    assert "pass" not in layer.url


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory, _single: Server) -> Iterator[TLS]:
    tls = TLS(tmp_path_factory.mktemp("tls"), _single)
    with tls.running():
        yield tls


def test_a_server_with_a_trusted_certificate_is_spoken_to_in_secret(server: Server, certified: TLS) -> None:
    assert works(open_layer(f"{certified.url}?ssl_ca_certs={certified.certificate}"), server)


def test_a_server_with_a_certificate_that_nobody_vouches_for_is_refused(
    server: Server, certified: TLS, tmp_path: Path
) -> None:
    layer = open_layer(certified.url)

    async def main() -> str:
        with pytest.raises(LayerUnavailable) as caught:
            await layer.send("jobs", event(1))
        with pytest.raises(LayerUnavailable):
            layer.send_sync("jobs", event(1))
        await layer.close()
        return str(caught.value)

    assert "certificate" in asyncio.run(main()).lower()
    assert server.client.dbsize() == 0


class TestSeveralHosts:
    @pytest.fixture(autouse=True)
    def _servers(self, server: Server, start_server: Callable[..., Server]) -> None:
        self.servers = [server, start_server(), start_server()]

    def open(self, **options: Any) -> RedisChannelLayer:
        return RedisChannelLayer(hosts=[server.url for server in self.servers], **options)

    def test_nothing_is_stranded_on_a_host_that_nobody_waits_on(self) -> None:
        async def main() -> list[int]:
            senders, layer = [self.open() for _ in range(5)], self.open()  # each begins with the first host
            for number, sender in enumerate(senders):
                for step in range(number + 1):
                    await sender.send("jobs", event(10 * number + step))
            taken: list[int] = []
            async with asyncio.timeout(20):
                while len(taken) < 15:
                    taken += numbers(await layer.take("jobs", 4))
            for one in (*senders, layer):
                await one.close()
            return taken

        expected = [10 * number + step for number in range(5) for step in range(number + 1)]
        assert sorted(asyncio.run(main())) == expected

    def test_a_taker_waits_on_all_of_them(self) -> None:
        async def main() -> list[int]:
            layer, got = self.open(), []
            async with asyncio.timeout(20):
                for number in range(9):
                    taking = asyncio.create_task(layer.take("jobs", 1))
                    while not all([await asyncio.to_thread(server.blocked) for server in self.servers]):
                        pass
                    await layer.send("jobs", event(number))
                    got += numbers(await taking)
            await layer.close()
            return got

        assert asyncio.run(main()) == list(range(9))

    def test_private_channels_and_groups_have_a_host_of_their_own(self) -> None:
        async def main() -> list[Any]:
            async with asyncio.timeout(20):
                layer, other = self.open(), self.open()
                got = []
                for number in range(6):
                    name = await layer.new_channel()
                    await other.send(name, event(number))
                    got.append(await layer.receive(name))
                    await layer.group_add("all", name)
                await other.group_add("all", "jobs")
                await other.group_send("all", event(6))
                got.append(await layer.receive("jobs"))
                await layer.close()
                await other.close()
                return got

        assert asyncio.run(main()) == [event(number) for number in range(7)]

    def test_one_that_is_lost_does_not_keep_the_others_from_being_heard(self) -> None:
        """Channels_redis would wait on the lost one, or raise."""
        _, lost, _ = self.servers

        async def main() -> set[int]:
            layer, sender = self.open(), self.open()
            acknowledged: set[int] = set()
            taken: set[int] = set()
            lost.kill()
            for number in range(6):
                try:
                    await sender.send("jobs", event(number))
                except LayerUnavailable:
                    continue
                acknowledged.add(number)
            assert len(acknowledged) >= 4
            async with asyncio.timeout(20):
                while taken != acknowledged:
                    try:
                        taken |= set(numbers(await layer.take("jobs", 9)))
                    except LayerUnavailable:
                        await asyncio.sleep(0.005)
            await layer.close()
            await sender.close()
            return taken

        assert asyncio.run(main())
