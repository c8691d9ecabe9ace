"""A worker whose leases end soon, so that a short run sees take-overs: `python -m storm.workers SECONDS`."""

import asyncio
import signal
import sys

from channelmap import Worker, load, load_router
from channelmap.sending import open_contract_layer
from channelmap.worker import Timing


async def serve(lease: float) -> None:
    contract = load("channels.yaml")
    services = {name: channel.service for name, channel in contract.channels.items()}
    worker = Worker(load_router(contract), services, open_contract_layer(contract), timing=Timing(lease=lease))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.serve()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
