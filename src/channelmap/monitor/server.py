"""The monitor of a process: a thread that answers HTTP requests, feeds systemd's watchdog and touches a file.

It runs in an event loop of its own, so that it answers while a handler blocks the worker's loop.

- `/livez`: 200 while the event loops of all workers run; 503 after one has not run for `stall` seconds. It does not
  depend on the layer, because a restart would not bring the layer back.
- `/readyz`: 200 while a worker serves its channels and the layer answers.
- `/metrics`: all metrics in Prometheus' text format.
- `/status.json`: the status of the layer, as `channelmap status --json` writes it.
"""

import asyncio
import logging
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from channelmap.errors import LayerError
from channelmap.layer import ChannelLayer
from channelmap.monitor.catalog import IN_FLIGHT, INFO, LAYER_UP, LOOP_LAG_SECONDS
from channelmap.monitor.exposition import CONTENT_TYPE, exposition
from channelmap.monitor.layer_values import LayerValues
from channelmap.monitor.reports import Reports
from channelmap.monitor.status import status
from channelmap.monitor.systemd import Systemd

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from channelmap.monitor.measuring import Values

log = logging.getLogger("channelmap.monitor")

#: Seconds between two checks of the workers, for systemd and the heartbeat file.
_CHECK_SECS = 0.5
#: Seconds that `/status.json` waits for the layer.
_STATUS_SECS = 5.0
_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a monitor does.

    Attributes:
        listener: a listening socket for HTTP; `None` for no HTTP.
        heartbeat_file: a file that is touched while the workers are alive; `None` for no file.
        stall: seconds after which a worker whose event loop does not run counts as stuck.
        version: version of channelmap.
        contract: digest of the contract.

    """

    listener: socket.socket | None
    heartbeat_file: Path | None
    stall: float
    version: str
    contract: str


class Monitor:
    """The monitor of this process; `start` and `stop` are called in another thread than the monitor's.

    Args:
        settings: what it does.
        reports: the reports of the workers.
        layer: an open layer, to count events.
        channels: names of the channels.
        systemd: the notification socket.

    """

    def __init__(
        self, settings: Settings, reports: Reports, layer: ChannelLayer, channels: Sequence[str], systemd: Systemd
    ) -> None:
        self._settings = settings
        self._reports = reports
        self._layer = layer
        self._channels = channels
        self._layer_values = LayerValues(layer, channels)
        self._systemd = systemd
        #: The last touch of the heartbeat file failed, and was logged.
        self._is_untouchable = False
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = Thread(target=self._run, name="channelmap-monitor", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and wait for it."""
        self._systemd.stopping()
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(2)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        jobs = [self._check_forever()]
        if self._settings.listener is not None:
            jobs.append(self._serve(self._settings.listener))
        running = [asyncio.ensure_future(job) for job in jobs]
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait([*running, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not self._stopping.is_set():
            error = next((task.exception() for task in running if task.done() and not task.cancelled()), None)
            log.critical("the monitor has stopped; the workers go on", exc_info=error)
        for task in (*running, stopping):
            task.cancel()
        await asyncio.gather(*running, stopping, return_exceptions=True)

    async def _serve(self, listener: socket.socket) -> None:
        import uvicorn

        config = uvicorn.Config(
            self._application(), log_config=None, access_log=False, log_level="warning", lifespan="off",
            server_header=False, timeout_graceful_shutdown=1,
        )  # fmt: skip
        await uvicorn.Server(config).serve([listener])

    async def _check_forever(self) -> None:
        """Tell systemd and the heartbeat file that the workers are alive."""
        told_ready = False
        while True:
            problem = self._stall()
            if self._reports.was_ready and not told_ready:
                told_ready = True
                self._systemd.ready()
            if problem is None:
                self._systemd.alive(self._summary())
                self._touch()
            else:
                self._systemd.stuck(problem)
            await asyncio.sleep(_CHECK_SECS)

    def _touch(self) -> None:
        file = self._settings.heartbeat_file
        if file is None:
            return
        try:
            file.touch()
        except OSError as error:
            if not self._is_untouchable:
                log.error("cannot touch %s, trying again: %s", file, error.strerror)  # noqa: TRY400
            self._is_untouchable = True
        else:
            self._is_untouchable = False

    def _summary(self) -> str:
        state = "ready" if self._reports.is_ready else "not ready"
        return f"{state}, {sum(self._reports.in_flight().values())} events in flight"

    def _stall(self) -> str | None:
        """Return why a worker is not alive; `None` if all are."""
        lag = self._reports.lag
        if lag <= self._settings.stall:
            return None
        return f"the event loop of a worker has not run for {lag:.0f} s (limit {self._settings.stall:g} s)"

    # HTTP.

    def _application(self) -> "Starlette":
        from starlette.applications import Starlette
        from starlette.routing import Route

        handlers = {
            "/livez": self._livez, "/readyz": self._readyz, "/metrics": self._metrics, "/status.json": self._status
        }  # fmt: skip
        return Starlette(routes=[Route(path, handler) for path, handler in handlers.items()])

    async def _livez(self, _request: "Request") -> "Response":
        return _answer(self._stall(), "alive")

    async def _readyz(self, _request: "Request") -> "Response":
        problem = None
        if not self._reports.is_layer_up:
            problem = "the layer does not answer"
        elif not self._reports.is_ready:
            problem = "no worker is ready"
        return _answer(problem, "ready")

    async def _metrics(self, _request: "Request") -> "Response":
        from starlette.responses import Response

        values: Values = self._reports.values() | await self._layer_values.get()
        values |= {(IN_FLIGHT.name, channel): 0.0 for channel in self._channels}
        values |= {(IN_FLIGHT.name, channel): float(count) for channel, count in self._reports.in_flight().items()}
        values[LAYER_UP.name,] = float(self._reports.is_layer_up)
        values[LOOP_LAG_SECONDS.name,] = self._reports.lag
        values[INFO.name, self._settings.version, self._settings.contract] = 1.0
        # In a thread, other requests are answered meanwhile.
        text = await asyncio.to_thread(exposition, values)
        return Response(text, media_type=CONTENT_TYPE)

    async def _status(self, _request: "Request") -> "Response":
        from starlette.responses import JSONResponse

        try:
            async with asyncio.timeout(_STATUS_SECS):
                return JSONResponse(await status(self._layer, self._channels))
        except TimeoutError:
            problem = "the layer does not answer"
        except LayerError as error:
            problem = str(error)
        return JSONResponse({"error": problem}, 503)


def _answer(problem: str | None, fine: str) -> "Response":
    from starlette.responses import PlainTextResponse

    return PlainTextResponse(f"{problem or fine}\n", 503 if problem else 200)


class Unusable(Exception):
    """A monitor cannot listen; the message says why."""


def listen(address: str) -> socket.socket:
    """Return a listening socket for `[HOST:]PORT`; without a host, only this machine can connect.

    Raises:
        Unusable: the address is not valid or not free, or the extra `monitor` is not installed.

    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise Unusable(f"--monitor needs the extra 'monitor': pip install 'channelmap[monitor]' ({error})") from None
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not port.isdecimal() or int(port) > _MAX_PORT:
        raise Unusable(f"--monitor {address}: expected [HOST:]PORT, such as 9100 or 0.0.0.0:9100")
    try:
        return socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise Unusable(f"--monitor {address}: cannot listen: {error.strerror or error}") from None
