"""A thread per instance for applications whose sync code would otherwise share one thread."""

from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext

from channelmap.asgi import Application, Receive, Scope, Send

#: Whether sync handlers run in the thread of asgiref's thread-sensitive calls, as in tests, not in their own.
in_shared_thread: ContextVar[bool] = ContextVar("in_shared_thread", default=False)


def in_own_thread(application: Application) -> Application:
    """Return an application whose instances each run their thread-sensitive calls in a thread of their own.

    Otherwise all instances of a process share one thread (see asgiref), and a blocking call blocks all of them. The
    handlers of Channels' own `SyncConsumer` are such calls.
    """

    async def with_thread(scope: Scope, receive: Receive, send: Send) -> Any:
        if in_shared_thread.get():
            return await application(scope, receive, send)
        async with ThreadSensitiveContext() as context:
            executor = ThreadPoolExecutor(1, thread_name_prefix=str(scope.get("channel")))
            threads = SyncToAsync.context_to_thread_executor
            threads[context] = executor
            try:
                return await application(scope, receive, send)
            finally:
                # Do not wait: a handler that was cut off would block the event loop until it ends.
                del threads[context]
                executor.shutdown(wait=False)

    return with_thread
