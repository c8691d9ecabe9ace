"""The shapes of ASGI, in which everything here speaks: an application is called with scope, receive, send."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Event = dict[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[Any]]
