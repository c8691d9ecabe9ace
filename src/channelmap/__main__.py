"""`python -m channelmap`."""

from channelmap.cli import main

main()
