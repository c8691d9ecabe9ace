"""`manage.py runworker`: serve the channels of the contract that the settings name."""

import click

from channelmap.cli.runworker import command
from channelmap.django.commands import ChannelmapCommand


class Command(ChannelmapCommand):
    """The worker. Arguments of Channels' own `runworker` work, too."""

    help = "Serve the channels of the contract: validate each event, and call the handler for its type."

    def command(self) -> click.Command:
        """Return the command."""
        return command
