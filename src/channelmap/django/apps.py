"""The app `channelmap`."""

from django.apps import AppConfig
from django.core.checks import register

from channelmap.django.checks import check_contract, check_deployment
from channelmap.django.layers import open_site_layer
from channelmap.django.settings import contract_path
from channelmap.site import Site, use_site


class ChannelmapConfig(AppConfig):
    """Makes the contract of the settings that of the process, and registers the system checks."""

    name = "channelmap.django"
    label = "channelmap"
    verbose_name = "channelmap"

    def ready(self) -> None:
        """Start the app."""
        use_site(Site(contract_path, open_site_layer))
        register(check_contract, "channelmap")
        register(check_deployment, "channelmap", deploy=True)
