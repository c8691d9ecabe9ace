"""System checks: `manage.py check` says what keeps a worker from starting, and what would be silent.

By default the contract is read and its consumers are imported; with `--deploy` all of `channelmap check` runs.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from django.core.checks import CheckMessage, Error, Info, Warning  # noqa: A004  (Django's names)
from django.core.exceptions import ImproperlyConfigured

from channelmap.codes import Severity
from channelmap.contract import Contract
from channelmap.diagnostics import Diagnostic
from channelmap.django.layers import DEFAULT_ALIAS, OUR_BACKENDS, is_site_layer, layers_setting
from channelmap.django.settings import contract_path
from channelmap.environment import shown
from channelmap.errors import ContractError, quoted
from channelmap.layers import IN_MEMORY_BACKENDS
from channelmap.loader import load
from channelmap.preflight import preflight

_KINDS: dict[Severity, type[CheckMessage]] = {
    Severity.ERROR: Error, Severity.WARNING: Warning, Severity.INFO: Info,
}  # fmt: skip


def check_contract(**_: Any) -> list[CheckMessage]:
    """Check what a worker needs, and that the site and its workers use the same layer."""
    try:
        contract = load(contract_path())
    except ImproperlyConfigured as error:
        return [Error(str(error), id="channelmap.setting")]
    except ContractError as error:
        return _messages(error.diagnostics)
    return [*_messages(preflight(contract)), *_check_layer(contract)]


def check_deployment(**_: Any) -> list[CheckMessage]:
    """Check everything else that `channelmap check` does."""
    from channelmap.check.rules import check
    from channelmap.check.suppressions import without_suppressed

    try:
        contract = load(contract_path())
    except (ImproperlyConfigured, ContractError):
        return []
    said = set(preflight(contract))
    found = without_suppressed(contract, check(contract), frozenset(), datetime.now(UTC).date())
    return _messages(finding for finding in found if finding not in said)


def _messages(findings: Iterable[Diagnostic]) -> list[CheckMessage]:
    return [
        _KINDS[finding.severity](
            finding.message, hint=finding.hint or None, obj=finding.location, id=f"channelmap.{finding.code}"
        )
        for finding in findings
    ]


def _check_layer(contract: Contract) -> Sequence[CheckMessage]:
    if DEFAULT_ALIAS not in layers_setting():
        return []
    backend = layers_setting()[DEFAULT_ALIAS].get("BACKEND", "")
    where = f"CHANNEL_LAYERS['{DEFAULT_ALIAS}']"
    if not contract.layer.is_default and not is_site_layer(contract):
        named = shown(contract.layer.url or contract.layer.backend)
        message = f"the contract names the layer {quoted(named)}, and {where} is another one ({backend})"
        hint = "events that the site sends do not reach its workers: remove 'layer:' from the contract, or one of both"
        location = contract.document.locate(("layer",))
        return [Error(message, hint=hint, obj=location, id="channelmap.layers-differ")]
    found: list[CheckMessage] = []
    if backend in IN_MEMORY_BACKENDS:
        message = f"{where} is in the memory of one process: no worker receives what the site sends"
        hint = "use 'channelmap.django.ChannelLayer', which has a file or a server"
        found.append(Warning(message, hint=hint, id="channelmap.layer-in-memory"))
    elif backend not in OUR_BACKENDS:
        message = f"events that the site sends through {where} are not judged: only workers reject invalid ones"
        hint = "use the BACKEND 'channelmap.django.ChannelLayer', with the same CONFIG"
        found.append(Warning(message, hint=hint, id="channelmap.sends-not-judged"))
    return found
