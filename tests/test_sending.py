"""The layer that a sender holds judges every event before it sends it."""

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from channelmap import (
    ChannelFull,
    ContractError,
    ContractLayer,
    EventRejected,
    UnknownChannel,
    Violation,
    get_channel_layer,
    load,
)
from channelmap.layer import current_layer
from channelmap.observer import Sent, Step

GOOD, BAD = {"type": "job", "id": 1}, {"type": "job", "id": "one"}


def receive(layer: Any, channel: str = "jobs") -> Any:
    return asyncio.run(layer.receive(channel))


@pytest.mark.parametrize("how", ["send", "send_many", "send_sync", "async_to_sync"])
def test_a_good_event_arrives_and_a_bad_one_is_refused(how: str, contract_file: Callable[..., Path]) -> None:
    layer = get_channel_layer(contract_file())

    def send(*events: Any) -> None:
        if how == "send_many":
            asyncio.run(layer.send_many("jobs", list(events)))
        for event in events if how != "send_many" else ():
            if how == "send":
                asyncio.run(layer.send("jobs", event))
            elif how == "send_sync":
                layer.send_sync("jobs", event)
            else:
                async_to_sync(layer.send)("jobs", event)

    with pytest.raises(EventRejected) as caught:
        send(BAD)
    send(GOOD)

    assert (caught.value.channel, caught.value.type, caught.value.code) == ("jobs", "job", "schema-mismatch")
    assert caught.value.violations == (Violation("$.id", "type", "expected integer, got string"),)
    assert receive(layer) == GOOD


def test_of_many_events_none_is_sent_when_one_is_refused(contract_file: Callable[..., Path]) -> None:
    layer = get_channel_layer(contract_file())

    with pytest.raises(EventRejected):
        asyncio.run(layer.send_many("jobs", [GOOD, BAD]))

    assert asyncio.run(layer.waiting("jobs")) == 0


def test_a_channel_that_is_not_declared_is_unknown(contract_file: Callable[..., Path]) -> None:
    layer = get_channel_layer(contract_file())

    with pytest.raises(UnknownChannel) as caught:
        layer.send_sync("job", GOOD)

    assert str(caught.value) == "no channel 'job'; the contract declares 'jobs'; did you mean 'jobs'?"


def test_the_files_capacity_is_the_layers(contract_file: Callable[..., Path]) -> None:
    layer = get_channel_layer(contract_file(options="capacity: 2"))
    layer.send_sync("jobs", GOOD)
    layer.send_sync("jobs", GOOD)

    with pytest.raises(ChannelFull) as caught:
        layer.send_sync("jobs", GOOD)

    assert (caught.value.channel, caught.value.capacity) == ("jobs", 2)


@pytest.mark.parametrize(("mode", "records"), [("warn", 1), ("'off'", 0)])
def test_a_contract_may_only_warn_or_not_judge_at_all(
    mode: str, records: int, contract_file: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    layer = get_channel_layer(contract_file(options=f"validate: {mode}"))

    layer.send_sync("jobs", BAD)

    assert receive(layer) == BAD
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * records


def test_private_channels_and_groups_are_not_the_contracts(contract_file: Callable[..., Path]) -> None:
    layer = get_channel_layer(contract_file())

    async def main() -> None:
        name = await layer.new_channel()
        assert name.startswith("specific.")
        await layer.group_add("g", name)
        await layer.group_send("g", {"anything": 1})
        await layer.send(name, {"anything": 2})
        assert await layer.receive(name) == {"anything": 1}
        assert await layer.receive(name) == {"anything": 2}

    asyncio.run(main())


def test_an_observer_is_told_each_event_that_was_sent(contract_file: Callable[..., Path]) -> None:
    seen: list[Step] = []
    layer = get_channel_layer(contract_file(options="validate: off"))
    layer.observe(seen.append)
    ids = [layer.send_sync("jobs", {"type": "job", "id": 1}), layer.send_sync("jobs", {"type": ["no", "text"]})]
    assert None not in ids
    assert seen == [Sent("jobs", "job", str(ids[0]), 0), Sent("jobs", "", str(ids[1]), 0)]


def test_an_event_on_a_layer_without_ids_was_sent_without_one(contract_file: Callable[..., Path]) -> None:
    seen: list[Step] = []
    contract = load(contract_file(layer="{backend: channels.layers.InMemoryChannelLayer}"))
    layer = ContractLayer(contract, observe=seen.append)
    assert asyncio.run(layer.send("jobs", {"type": "job", "id": 1})) is None
    assert seen == [Sent("jobs", "job", "", 0)]


def test_names_and_events_are_checked_as_channels_does(contract_file: Callable[..., Path]) -> None:
    layer = get_channel_layer(contract_file())
    assert layer.require_valid_channel_name("specific.a!b")
    assert layer.require_valid_channel_name("specific.a!", receive=True)
    with pytest.raises(TypeError, match="must end at the !"):
        layer.require_valid_channel_name("specific.a!b", receive=True)
    assert layer.require_valid_group_name("group")
    with pytest.raises(TypeError, match="Group name"):
        layer.require_valid_group_name("group!")
    layer.require_valid_event({"type": "job"})
    with pytest.raises(AssertionError, match="not a dict"):
        layer.require_valid_event("job")


def test_the_file_is_the_argument_or_the_environments_or_the_one_here(
    contract_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = contract_file()

    here = get_channel_layer()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.setenv("CHANNELMAP_CONFIG", str(path))
    from_environment = get_channel_layer()
    monkeypatch.delenv("CHANNELMAP_CONFIG")

    assert here is from_environment is get_channel_layer(path)
    with pytest.raises(ContractError, match=r"elsewhere\d+/channels\.yaml: error\[file-missing\]"):
        get_channel_layer().send_sync("jobs", GOOD)


def test_the_contract_may_be_passed_by_its_name_or_by_the_former_one(contract_file: Callable[..., Path]) -> None:
    path = contract_file()

    assert get_channel_layer(contract=path) is get_channel_layer(config=path) is get_channel_layer(path)
    with pytest.raises(TypeError, match=r"get_channel_layer\(\) got both 'contract' and 'config'"):
        get_channel_layer(path, config=path)


def test_code_that_a_worker_runs_gets_the_workers_layer(contract_file: Callable[..., Path]) -> None:
    layer = get_channel_layer(contract_file())
    token = current_layer.set(layer)
    try:
        assert get_channel_layer() is layer
    finally:
        current_layer.reset(token)


@pytest.mark.parametrize("url", ["memory://", "sqlite:///channels.db"])
def test_async_to_sync_works_from_plain_threads_and_from_sync_to_async_threads(
    url: str, contract_file: Callable[..., Path]
) -> None:
    layer = get_channel_layer(contract_file(layer=url))
    loops: set[Any] = set()

    async def send(event_id: int) -> None:
        loops.add(asyncio.get_running_loop())
        await layer.send("jobs", {"type": "job", "id": event_id})

    def from_here() -> None:
        async_to_sync(layer.send)("jobs", {"type": "job", "id": 1})
        async_to_sync(layer.send)("jobs", {"type": "job", "id": 2})

    from_here()
    thread = threading.Thread(target=from_here)
    thread.start()
    thread.join()

    async def main() -> None:
        await sync_to_async(async_to_sync(send))(3)
        assert loops == {asyncio.get_running_loop()}
        await sync_to_async(layer.send_sync)("jobs", {"type": "job", "id": 4})
        with pytest.raises(RuntimeError, match="^You cannot use AsyncToSync in the same thread as an async event loop"):
            async_to_sync(layer.send)("jobs", GOOD)
        received = [(await layer.receive("jobs"))["id"] for _ in range(6)]
        assert received == [1, 2, 1, 2, 3, 4]
        await layer.close()

    asyncio.run(main())
