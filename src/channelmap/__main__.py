"""The start of every process of channelmap's: the commands `channelmap`, `runworker` and `python -m channelmap`."""

from typing import NoReturn

from channelmap import startup


def main() -> NoReturn:
    """Run the `channelmap` command and exit."""
    startup.prepare()
    from channelmap.cli import main as command

    command()


def runworker() -> NoReturn:
    """Run the `runworker` command and exit."""
    startup.prepare()
    from channelmap.cli import runworker as command

    command()


if __name__ == "__main__":
    main()
