"""A layer in memory replaces those of contract files in the whole process, until its context ends."""

import asyncio
import threading
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

from channelmap import ChannelFull, EventRejected, UnknownChannel, get_channel_layer, load
from channelmap.contract import Contract
from channelmap.layer import ChannelLayer
from channelmap.site import Site, use_site
from channelmap.testing import memory_layer, sent_events

PAID = {"type": "paid", "id": 1}
SENT = {"type": "sent"}


def test_get_channel_layer_returns_it_in_threads_and_event_loops(shop: ModuleType) -> None:
    found = []

    async def find() -> None:
        found.append(get_channel_layer())

    with memory_layer() as layer:
        thread = threading.Thread(target=lambda: found.append(get_channel_layer()))
        thread.start()
        thread.join()
        asyncio.run(find())
        assert found == [layer, layer] == [get_channel_layer()] * 2


def test_a_layer_that_was_found_before_sends_to_it_and_the_real_one_is_not_opened(
    shop: ModuleType, project: Path
) -> None:
    layer = get_channel_layer()
    named = get_channel_layer(project / "channels.yaml")
    with memory_layer():
        layer.send_sync("orders", PAID)
        named.send_sync("mail", SENT)
        assert sent_events() == [PAID, SENT]
    assert not (project / "channels.db").exists()


def test_the_real_layer_is_there_again_afterwards(shop: ModuleType, project: Path) -> None:
    layer = get_channel_layer()
    layer.send_sync("mail", SENT)
    with memory_layer():
        assert asyncio.run(layer.waiting("mail")) == 0
        layer.send_sync("orders", PAID)
    assert get_channel_layer() is layer
    assert asyncio.run(layer.waiting("mail")) == 1
    assert asyncio.run(layer.waiting("orders")) == 0
    asyncio.run(layer.close())


def test_each_test_begins_without_events(shop: ModuleType) -> None:
    for _ in range(2):
        with memory_layer() as layer:
            assert sent_events() == []
            layer.send_sync("mail", SENT)


def test_the_contract_is_that_of_the_environment_or_the_site(
    shop: ModuleType, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "channels.yaml").rename(project / "events.yaml")
    monkeypatch.setenv("CHANNELMAP_CONFIG", "events.yaml")
    with memory_layer() as layer:
        layer.send_sync("mail", SENT)
    monkeypatch.delenv("CHANNELMAP_CONFIG")

    def open_layer(contract: Contract, alias: str | None) -> ChannelLayer:
        raise AssertionError("the layer of the site was opened")

    use_site(Site(lambda: project / "events.yaml", open_layer))
    try:
        with memory_layer():
            get_channel_layer().send_sync("mail", SENT)
            assert sent_events() == [SENT]
    finally:
        use_site(None)


@pytest.mark.parametrize("is_loaded", [False, True])
def test_the_contract_may_be_given(shop: ModuleType, project: Path, is_loaded: bool) -> None:  # noqa: FBT001
    path = (project / "channels.yaml").rename(project / "events.yaml")
    with memory_layer(load(path) if is_loaded else "events.yaml"):
        get_channel_layer().send_sync("mail", SENT)
        get_channel_layer("events.yaml").send_sync("mail", SENT)
        assert sent_events() == [SENT, SENT]


def test_it_follows_a_test_into_another_directory(
    shop: ModuleType, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory_layer() as layer:
        monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
        assert get_channel_layer() is layer


def test_another_contract_has_a_layer_in_memory_of_its_own(shop: ModuleType, project: Path) -> None:
    (project / "other.yaml").write_text(
        "version: 1\nchannels: {logs: {consumer: nowhere.Logs, events: {line: true}}}\n"
    )
    with memory_layer():
        other = get_channel_layer("other.yaml")
        other.send_sync("logs", {"type": "line"})
        assert asyncio.run(get_channel_layer("other.yaml").waiting("logs")) == 1
        assert sent_events() == []
    assert not (project / "channels.db").exists()


def test_the_innermost_layer_counts(shop: ModuleType) -> None:
    with memory_layer() as outer:
        outer.send_sync("mail", SENT)
        with memory_layer():
            assert sent_events() == []
        assert sent_events() == [SENT]
        assert get_channel_layer() is outer


def test_it_judges_what_is_sent(shop: ModuleType) -> None:
    with memory_layer() as layer:
        with pytest.raises(EventRejected):
            layer.send_sync("orders", {"type": "paid", "id": "one"})
        assert sent_events() == []


def test_it_has_the_limits_of_the_contract(shop: ModuleType, project: Path) -> None:
    path = project / "channels.yaml"
    path.write_text(path.read_text().replace("  mail:\n", "  mail:\n    capacity: 1\n"))
    with memory_layer() as layer:
        layer.send_sync("mail", SENT)
        with pytest.raises(ChannelFull):
            layer.send_sync("mail", SENT)


def test_sent_events_are_in_the_order_of_their_sends_and_then_of_their_due_times(shop: ModuleType) -> None:
    with memory_layer() as layer:
        later = layer.send_sync("mail", {"type": "sent", "id": 4}, delay=60)
        layer.send_sync("orders", {"type": "paid", "id": 1}, delay=30)
        layer.send_sync("mail", {"type": "sent", "id": 2})
        layer.send_sync("orders", {"type": "paid", "id": 3})
        sent = sent_events()
        assert [(one.channel, one["id"]) for one in sent] == [("mail", 2), ("orders", 3), ("orders", 1), ("mail", 4)]
        assert [one["id"] for one in sent_events("mail")] == [2, 4]
    assert sent[0].due is None
    assert sent[3].id == later
    assert sent[3].attempt == 1
    due = sent[3].due
    assert due is not None
    assert timedelta(seconds=50) < due - datetime.now(UTC) <= timedelta(seconds=60)


def test_a_sent_event_can_be_copied_and_sent_again(shop: ModuleType) -> None:
    with memory_layer() as layer:
        layer.send_sync("orders", PAID)
        (sent,) = sent_events()
        copied = deepcopy(sent)
        assert (copied, copied.channel, copied.id) == (PAID, "orders", sent.id)
        layer.send_sync("orders", sent)
        assert sent_events() == [PAID, PAID]


def test_a_misspelt_channel_has_no_events_but_an_error(shop: ModuleType) -> None:
    with memory_layer(), pytest.raises(UnknownChannel, match="did you mean 'orders'"):
        sent_events("order")


def test_without_a_layer_in_memory_the_error_says_where_it_comes_from() -> None:
    with pytest.raises(RuntimeError, match="sent_events.. needs a layer in memory: use the fixture 'channelmap_layer'"):
        sent_events()
