"""Options that several commands share, and what must be done before a consumer can be imported."""

import os
from pathlib import Path

import click

from channelmap.errors import quoted
from channelmap.imports import in_words, make_importable

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
    """Make consumers importable from the working directory and from the file's, and set Django up if it is used."""
    make_importable(Path.cwd(), Path(config).absolute().parent)
    settings = os.environ.get("DJANGO_SETTINGS_MODULE")
    if settings:
        _set_django_up(settings)


def _set_django_up(settings: str) -> None:
    try:
        import django

        django.setup()
    except (Exception, SystemExit) as error:
        # Settings and applications are the user's code, and may raise whatever they like.
        message = f"DJANGO_SETTINGS_MODULE is {quoted(settings)}, and setting Django up raised {in_words(error)}"
        raise click.UsageError(message) from error
