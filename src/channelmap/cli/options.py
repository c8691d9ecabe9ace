"""Options of several commands, and preparation of imports."""

import click

from channelmap import imports

CONFIG = click.option(
    "--config",
    envvar="CHANNELMAP_CONFIG",
    default="channels.yaml",
    type=click.Path(),
    show_default=True,
    metavar="FILE",
    help="Use this contract. $CHANNELMAP_CONFIG sets it too.",
)
VERSION = click.version_option(package_name="channelmap", message="%(prog)s %(version)s")
LAYER = click.option("--layer", metavar="URL", help="Use this layer instead of that of the contract.")


def prepare_imports(config: str) -> None:
    """Make consumers importable, and set up Django if it is used."""
    try:
        imports.prepare_imports(config)
    except imports.DjangoUnusable as error:
        raise click.UsageError(str(error)) from error
