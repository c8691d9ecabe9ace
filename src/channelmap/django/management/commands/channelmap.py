"""`manage.py channelmap check`, `status`, `dead` and the other commands of channelmap."""

import click

from channelmap.cli import channelmap
from channelmap.django.commands import ChannelmapCommand


class Command(ChannelmapCommand):
    """The commands of channelmap, with the contract of the settings."""

    help = "Check the contract, show the status of channels, and all else that channelmap does."
    #: The commands say themselves what is wrong.
    requires_system_checks = ()

    def command(self) -> click.Command:
        """Return the group of commands."""
        return channelmap
