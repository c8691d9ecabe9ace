"""Make TLS contexts, and name the option or file at fault when that, or a handshake, fails."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from channelmap.errors import quoted

_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
#: Options whose value is a path.
PATHS = (*_FILES, "ssl_ca_path")

#: OpenSSL's codes (X509_V_ERR_…) for a certificate that it does not accept.
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNKNOWN_ISSUER = (2, 18, 19, 20, 21)
_OTHER_HOST = (62, 64)


class TLSUnusable(Exception):
    """No TLS context can be made; the text names the option, its file and the problem."""


def make_context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """Return the TLS context that redis-py's options describe.

    Raises:
        TLSUnusable: an option, or a file that an option names, cannot be used.

    """
    chosen = {name: value for name, value in options.items() if name.startswith("ssl_") and value is not None}
    for name in _FILES:
        if name in chosen:
            _require_readable(name, chosen[name])
    # OpenSSL treats a missing directory as one without certificates.
    if "ssl_ca_path" in chosen and not Path(chosen["ssl_ca_path"]).is_dir():
        raise TLSUnusable(f"there is no directory {quoted(chosen['ssl_ca_path'], 200)}, named by ssl_ca_path")
    try:
        return _make(chosen)
    except Exception:  # noqa: BLE001  (its text may quote a value; the reason is found below)
        reason = _reason(chosen)
    raise TLSUnusable(reason)


def handshake_failed(error: ssl.SSLError, options: Mapping[str, Any]) -> str:
    """Return why a TLS handshake failed, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_rejected(error, options)
    reason = error.reason or "TLS failed"
    if "ALERT_CERTIFICATE_REQUIRED" in reason:
        return "the server requires a client certificate; name its files with ssl_certfile and ssl_keyfile"
    if "ALERT_UNKNOWN_CA" in reason or "ALERT_BAD_CERTIFICATE" in reason or "ALERT_CERTIFICATE" in reason:
        return f"the server does not accept the client certificate {_file_of('ssl_certfile', options)} ({reason})"
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return "the server does not speak TLS on this port; use its TLS port, or a URL with redis instead of rediss"
    return f"no encrypted connection can be made ({reason})"


def _make(chosen: Mapping[str, Any]) -> ssl.SSLContext:
    from redis.asyncio.connection import SSLConnection

    # Without a password, OpenSSL would ask for one on the terminal.
    context: ssl.SSLContext = SSLConnection(**{"ssl_password": ""} | dict(chosen)).ssl_context.get()
    return context


def _require_readable(option: str, path: Any) -> None:
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except FileNotFoundError:
        raise TLSUnusable(f"there is no file {quoted(path, 200)}, named by {option}") from None
    except OSError as error:
        raise TLSUnusable(
            f"the file {quoted(path, 200)}, named by {option}, cannot be read: {error.strerror}"
        ) from None


def _reason(chosen: Mapping[str, Any]) -> str:
    """Find the option at fault by trying one after the other."""
    for name in ("ssl_ca_certs", "ssl_certfile"):
        if name in chosen and not _holds_certificates(cafile=chosen[name]):
            return f"the file {_file_of(name, chosen)} holds no certificate; expected PEM (-----BEGIN CERTIFICATE-----)"
    if "ssl_ca_data" in chosen and not _holds_certificates(cadata=chosen["ssl_ca_data"]):
        return "ssl_ca_data holds no certificate; expected PEM (-----BEGIN CERTIFICATE-----)"
    if "ssl_keyfile" in chosen and "ssl_certfile" not in chosen:
        return f"the key {_file_of('ssl_keyfile', chosen)} has no certificate; name that one's file with ssl_certfile"
    pair = {name: chosen[name] for name in ("ssl_certfile", "ssl_keyfile", "ssl_password") if name in chosen}
    if "ssl_certfile" in pair:
        try:
            _make(pair)
        except ssl.SSLError as error:
            return _bad_key(pair, error)
    for name in set(chosen).difference(pair):
        try:
            _make({name: chosen[name]})
        except Exception:  # noqa: BLE001  (its text may quote the value)
            return f"the value of {name} cannot be used"
    return "the options that begin with ssl_ cannot be used together"


def _holds_certificates(**source: Any) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(**source)
    except ssl.SSLError:
        return False
    return True


def _bad_key(pair: Mapping[str, Any], error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        certificate = quoted(pair["ssl_certfile"], 200)
        return f"the key {_file_of('ssl_keyfile', pair)} does not belong to the certificate in {certificate}"
    if "ssl_keyfile" not in pair:
        return f"the file {_file_of('ssl_certfile', pair)} holds no private key; name the key's file with ssl_keyfile"
    if b"ENCRYPTED" in Path(pair["ssl_keyfile"]).read_bytes():
        key = f"the key {_file_of('ssl_keyfile', pair)} is encrypted"
        return (
            f"{key} with another password than ssl_password" if "ssl_password" in pair else f"{key}; set ssl_password"
        )
    return f"the file {_file_of('ssl_keyfile', pair)} holds no private key; expected PEM (-----BEGIN PRIVATE KEY-----)"


def _certificate_rejected(error: ssl.SSLCertVerificationError, options: Mapping[str, Any]) -> str:
    code = error.verify_code
    if code in _UNKNOWN_ISSUER:
        if options.get("ssl_ca_certs"):
            return f"the server's certificate is not signed by a CA in the file {_file_of('ssl_ca_certs', options)}"
        return "the server's certificate is not signed by a CA that is trusted here; name its file with ssl_ca_certs"
    if code in _OTHER_HOST:
        return "the server's certificate is for another host; connect to a name or address that the certificate lists"
    if code == _EXPIRED:
        return "the server's certificate, or that of its CA, has expired; renew it"
    if code == _NOT_YET_VALID:
        return "the server's certificate, or that of its CA, is not valid yet; check the clocks of both machines"
    return f"the server's certificate is not accepted ({error.verify_message})"


def _file_of(option: str, options: Mapping[str, Any]) -> str:
    """Return the file of an option, and the option's name."""
    return f"{quoted(options[option], 200)} ({option})" if options.get(option) else f"({option})"
