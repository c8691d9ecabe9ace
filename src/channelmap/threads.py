"""A thread for each instance of an application whose sync code would share one with all others."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext

from channelmap.asgi import Application, Receive, Scope, Send


def in_own_thread(application: Application) -> Application:
    """Let each instance of an application have a thread for its thread-sensitive calls, as those of asgiref are called.

    Without it all instances of a process share one thread, and a call that blocks holds up all of them. The handlers of
    Channels' own `SyncConsumer` are such calls.
    """

    async def with_thread(scope: Scope, receive: Receive, send: Send) -> Any:
        async with ThreadSensitiveContext() as context:
            executor = ThreadPoolExecutor(1, thread_name_prefix=str(scope.get("channel")))
            threads = SyncToAsync.context_to_thread_executor
            threads[context] = executor
            try:
                return await application(scope, receive, send)
            finally:
                # Not waited for: a handler that was cut off would hold up the event loop until it ends.
                del threads[context]
                executor.shutdown(wait=False)

    return with_thread
