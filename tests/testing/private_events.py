"""A consumer that sends events to its own private channel, through a group."""

import threading
from pathlib import Path
from types import ModuleType

import pytest

from channelmap.testing import drain, memory_layer

CONSUMER = """
import threading
from asgiref.sync import async_to_sync
from {package} import {base} as Base

seen = []

class Chat(Base):
    {keyword} said(self, event):
        {call}(self.channel_layer.group_add)("all", self.channel_name)
        {call}(self.channel_layer.group_send)("all", {{"type": "joined", "id": event["id"]}})
        seen.append(("said", event["id"], threading.get_ident()))

    {keyword} joined(self, event):
        seen.append(("joined", event["id"], threading.get_ident()))
        if event["id"] == 7:
            raise LookupError("private")
"""


def joining(package: str, base: str) -> str:
    """Return the code of the consumer, derived from a class of a package."""
    keyword, call = ("def", "async_to_sync") if base == "SyncConsumer" else ("async def", "await ")
    return CONSUMER.format(package=package, base=base, keyword=keyword, call=call)


def require_private_events(project: Path, module: ModuleType) -> None:
    """Require that private events are handled, and their errors raised; sync handlers run in this thread."""
    (project / "channels.yaml").write_text(
        f"version: 1\nchannels: {{chat: {{consumer: {module.__name__}.Chat, events: {{said: true, joined: true}}}}}}\n"
    )
    with memory_layer() as layer:
        layer.send_sync("chat", {"type": "said", "id": 1})
        layer.send_sync("chat", {"type": "said", "id": 2})
        assert [one["id"] for one in drain()] == [1, 2]
        assert [(what, number) for what, number, _ in module.seen] == [
            ("said", 1), ("joined", 1), ("said", 2), ("joined", 2),
        ]  # fmt: skip
        is_sync = not module.Chat.said.__code__.co_flags & 0x80
        assert {thread_id == threading.get_ident() for *_, thread_id in module.seen} == {is_sync}
        layer.send_sync("chat", {"type": "said", "id": 7})
        with pytest.raises(LookupError, match="private"):
            drain()
