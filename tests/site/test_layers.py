"""The site and its workers use one layer, and sends through Channels are judged."""

from .projects import CHANNELS, Project

OURS = "CHANNEL_LAYERS = {'default': {'BACKEND': 'channelmap.django.ChannelLayer'}}"


def test_sends_through_channels_are_judged_and_reach_the_worker(shop: Project) -> None:
    shop.set(OURS)
    said = shop.shell(
        "from asgiref.sync import async_to_sync\n"
        "from channels.layers import get_channel_layer\n"
        "from channelmap import EventRejected\n"
        "send = async_to_sync(get_channel_layer().send)\n"
        "send('orders', {'type': 'paid', 'id': 1})\n"
        "try:\n    send('orders', {'type': 'paid', 'id': 'one'})\n"
        "except EventRejected as error:\n    result = str(error)"
    )
    assert "$.id" in said
    assert shop.manage("runworker", "--burst")[1] == "paid 1\n"


def test_a_contract_without_a_layer_has_that_of_the_settings_and_its_limits(shop: Project) -> None:
    shop.set(
        "CHANNEL_LAYERS = {'default': {'BACKEND': 'channelmap.django.ChannelLayer',"
        " 'CONFIG': {'url': f'sqlite:///{BASE_DIR}/events.db'}}}"
    )
    shop.write({"channels.yaml": CHANNELS.replace("    events:", "    capacity: 7\n    events:")})
    found = shop.shell(
        "from channelmap import get_channel_layer\n"
        "layer = get_channel_layer()\n"
        "result = [layer.url, layer.layer.limits_of('orders').capacity]"
    )
    assert found == [f"sqlite:///{shop.directory}/events.db", 7]
    assert f"from sqlite:///{shop.directory}/events.db" in shop.manage("runworker", "--burst")[2]


def test_channels_own_redis_settings_name_our_layer(shop: Project) -> None:
    shop.set(
        "CHANNEL_LAYERS = {'default': {'BACKEND': 'channels_redis.core.RedisChannelLayer',"
        " 'CONFIG': {'hosts': [('somewhere', 6379)], 'prefix': 'mine'}}}"
    )
    found = shop.shell(
        "from channelmap import get_channel_layer\n"
        "layer = get_channel_layer().layer\n"
        "result = [type(layer).__module__, layer.url, layer.prefix]"
    )
    assert found == ["channelmap.layers.redis.layer", "redis://somewhere:6379/0", "mine"]


def test_a_password_of_the_settings_is_not_in_an_error(shop: Project) -> None:
    shop.set(
        "CHANNEL_LAYERS = {'default': {'BACKEND': 'channelmap.django.ChannelLayer',"
        " 'CONFIG': {'url': 'redis://:s3cret@somewhere', 'prefix': ['s3cret']}}}"
    )
    code, out, errors = shop.manage("channelmap", "status")
    assert code == 2
    assert "s3cret" not in out + errors


def test_the_layer_of_another_alias_is_told_by_its_name(shop: Project) -> None:
    code, _, errors = shop.manage("channelmap", "status", "--layer", "other")
    assert code == 2
    assert "'other' is not in CHANNEL_LAYERS; expected an alias of CHANNEL_LAYERS, or a URL" in errors
