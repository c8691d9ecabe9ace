"""`manage.py check` says what would otherwise be silent."""

import pytest

from .projects import CHANNELS, Project

LAYERS = "CHANNEL_LAYERS = {{'default': {}}}"


def test_a_sound_project_has_no_issues(shop: Project) -> None:
    shop.set(LAYERS.format("{'BACKEND': 'channelmap.django.ChannelLayer'}"))
    code, out, _ = shop.manage("check")
    assert (code, out) == (0, "System check identified no issues (0 silenced).\n")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Orders", "Ordres", "channels.yaml:4:15: (channelmap.consumer-not-found)"),
        ("paid:", "refunded:", "channels.yaml:6:7: (channelmap.handler-missing)"),
        ("type: integer", "type: intger", "channelmap.schema-invalid"),
        ("consumer:", "consumers:", "channelmap.unknown-key"),
    ],
)
def test_what_keeps_a_worker_from_starting_is_an_error_with_its_place(
    shop: Project, old: str, new: str, said: str
) -> None:
    shop.write({"channels.yaml": CHANNELS.replace(old, new)})
    code, _, errors = shop.manage("check")
    assert code == 1
    assert said in errors


def test_two_layers_that_differ_are_an_error(shop: Project) -> None:
    shop.write({"channels.yaml": CHANNELS.replace("channels:", "layer: redis://somewhere:6379/0\nchannels:", 1)})
    shop.set(
        LAYERS.format(
            "{'BACKEND': 'channels_redis.core.RedisChannelLayer', 'CONFIG': {'hosts': ['redis://elsewhere']}}"
        )
    )
    code, _, errors = shop.manage("check")
    assert code == 1
    assert (
        "channels.yaml:2:8: (channelmap.layers-differ) the contract names the layer 'redis://somewhere:6379/0'"
        in errors
    )


@pytest.mark.parametrize(
    "layer",
    [
        "{'BACKEND': 'channels_redis.core.RedisChannelLayer', 'CONFIG': {'hosts': ['redis://somewhere:6379/0']}}",
        "{'BACKEND': 'channelmap.django.ChannelLayer'}",
        "{'BACKEND': 'channelmap.django.ChannelLayer', 'CONFIG': {'url': 'redis://somewhere:6379/0'}}",
        "{'BACKEND': 'channelmap.django.ChannelLayer', 'CONFIG': {'hosts': [('somewhere', 6379)]}}",
    ],
)
def test_the_same_layer_in_other_words_is_no_error(shop: Project, layer: str) -> None:
    shop.write({"channels.yaml": CHANNELS.replace("channels:", "layer: redis://somewhere:6379/0\nchannels:", 1)})
    shop.set(LAYERS.format(layer))
    assert shop.manage("check")[0] == 0


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("{'BACKEND': 'channels_redis.core.RedisChannelLayer'}", "channelmap.sends-not-judged"),
        ("{'BACKEND': 'channels.layers.InMemoryChannelLayer'}", "channelmap.layer-in-memory"),
    ],
)
def test_sends_that_nobody_judges_or_receives_are_a_warning(shop: Project, layer: str, said: str) -> None:
    shop.set(LAYERS.format(layer))
    code, _, errors = shop.manage("check")
    assert code == 0
    assert said in errors


def test_the_rest_of_channelmap_check_runs_before_a_deployment(shop: Project) -> None:
    shop.write({"channels.yaml": CHANNELS.replace("type: integer", "type: integer, maxLength: 5")})
    said = "channelmap.keyword-without-effect"
    assert said not in shop.manage("check")[2]
    assert shop.manage("check", "--deploy")[2].count(said) == 1
