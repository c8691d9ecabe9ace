"""A TLS connection that cannot be made says which option, which file or which certificate is at fault."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

from channelmap.environment import FilledText
from channelmap.errors import LayerUnavailable
from channelmap.layers import open_layer
from channelmap.layers.redis import RedisChannelLayer
from tests.layers.conformance import event, numbers
from tests.layers.redis_drill import run
from tests.layers.redis_servers import TLS, Server, certify


def refusals(layer: Any) -> str:
    """What a sender in an event loop and one outside of it hear; it is the same."""

    async def main() -> str:
        with pytest.raises(LayerUnavailable) as caught:
            await layer.send("jobs", event(1))
        with pytest.raises(LayerUnavailable) as caught_outside:
            await asyncio.to_thread(layer.send_sync, "jobs", event(1))
        await layer.close()
        assert str(caught_outside.value) == str(caught.value)
        return str(caught.value)

    return run(main())


def refusal(relay: TLS, **options: Any) -> str:
    """What senders hear whose URL has these options."""
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return refusals(open_layer(f"{relay.url}?{query}"))


@pytest.fixture
def relay(server: Server, tmp_path: Path) -> TLS:
    """A relay that does not run: it is not even asked."""
    return TLS(tmp_path, server)


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_a_file_that_is_missing_is_named_with_its_option(relay: TLS, tmp_path: Path, option: str) -> None:
    missing = tmp_path / "missing.pem"
    assert f"there is no file '{missing}', named by {option}" in refusal(relay, **{option: missing})


def test_a_directory_that_is_missing_is_named_with_its_option(relay: TLS, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert f"there is no directory '{missing}', named by ssl_ca_path" in refusal(relay, ssl_ca_path=missing)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(relay: TLS, tmp_path: Path) -> None:
    told = refusal(relay, ssl_ca_certs=tmp_path)
    assert f"the file '{tmp_path}', named by ssl_ca_certs, cannot be read: Is a directory" in told


@pytest.mark.parametrize("content", ["", "rubbish", "-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----"])
@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
def test_a_file_without_a_certificate_is_named(relay: TLS, tmp_path: Path, content: str, option: str) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text(content)
    assert f"the file '{rubbish}' ({option}) holds no certificate" in refusal(relay, **{option: rubbish})


def test_a_file_without_a_key_is_named(relay: TLS) -> None:
    told = refusal(relay, ssl_certfile=relay.certificate, ssl_keyfile=relay.certificate)
    assert f"the file '{relay.certificate}' (ssl_keyfile) holds no private key" in told
    told = refusal(relay, ssl_certfile=relay.certificate)
    assert f"the file '{relay.certificate}' (ssl_certfile) holds no private key; name the key's file" in told


def test_a_key_that_fits_no_certificate_is_named(relay: TLS, tmp_path: Path) -> None:
    key = tmp_path / "other-key.pem"
    certify(tmp_path / "other.pem", key)
    assert f"the key '{key}' (ssl_keyfile) has no certificate" in refusal(relay, ssl_keyfile=key)
    told = refusal(relay, ssl_certfile=relay.certificate, ssl_keyfile=key)
    assert f"the key '{key}' (ssl_keyfile) does not belong to the certificate in '{relay.certificate}'" in told


def test_an_encrypted_key_is_opened_by_ssl_password_alone(relay: TLS, tmp_path: Path) -> None:
    certificate, key = tmp_path / "other.pem", tmp_path / "other-key.pem"
    certify(certificate, key, encryption=BestAvailableEncryption(b"sesame"))
    told = refusal(relay, ssl_certfile=certificate, ssl_keyfile=key)
    assert f"the key '{key}' (ssl_keyfile) is encrypted; set ssl_password" in told
    told = refusal(relay, ssl_certfile=certificate, ssl_keyfile=key, ssl_password="opensesame")
    assert "is encrypted with another password than ssl_password" in told
    assert "opensesame" not in told


@pytest.mark.parametrize("option", ["ssl_cert_reqs", "ssl_ciphers"])
def test_an_option_with_a_value_that_cannot_be_used_is_named(relay: TLS, option: str) -> None:
    told = refusal(relay, ssl_ca_certs=relay.certificate, **{option: "rubbish"})
    assert f"the value of {option} cannot be used" in told


def test_a_file_that_the_environment_names_is_shown_as_it_was_written(relay: TLS) -> None:
    for written, shown in [("${URL}", "'…'"), ("rediss://${HOST}?ssl_ca_certs=${CA}", "'${CA}'")]:
        told = refusals(open_layer(FilledText(f"{relay.url}?ssl_ca_certs=/secret", written)))
        assert f"there is no file {shown}, named by ssl_ca_certs" in told
        assert "secret" not in told
    host = {"address": relay.url, "ssl_ca_certs": FilledText("/secret", "${CA}")}
    assert "there is no file '${CA}', named by ssl_ca_certs" in refusals(RedisChannelLayer(hosts=[host]))


def test_a_file_that_comes_late_is_read(relay: TLS, tmp_path: Path) -> None:
    late = tmp_path / "late.pem"

    async def main() -> list[int]:
        layer = open_layer(f"{relay.url}?ssl_ca_certs={late}")
        with pytest.raises(LayerUnavailable, match=r"late\.pem"):
            await layer.send("jobs", event(1))
        late.write_bytes(relay.certificate.read_bytes())
        await layer.send("jobs", event(2))
        taken = numbers(await layer.take("jobs", 9))
        await layer.close()
        return taken

    with relay.running():
        assert run(main()) == [2]


class TestCertificates:
    @pytest.fixture(autouse=True)
    def _server(self, server: Server, tmp_path: Path) -> None:
        self.server, self.directory = server, tmp_path

    def refusal(self, options: Callable[[TLS], dict[str, Any]], **relay_options: Any) -> str:
        with TLS(self.directory, self.server, **relay_options).running() as relay:
            told = refusal(relay, **options(relay))
        assert self.server.client.dbsize() == 0
        return told

    @staticmethod
    def trusted(relay: TLS) -> dict[str, Any]:
        return {"ssl_ca_certs": relay.certificate}

    def test_one_that_this_machine_does_not_trust_asks_for_the_ca(self) -> None:
        told = self.refusal(lambda relay: {})
        assert "is not signed by a CA that is trusted here; name its file with ssl_ca_certs" in told

    def test_one_of_another_ca_names_the_file_of_the_ca(self) -> None:
        other = self.directory / "other.pem"
        certify(other, self.directory / "other-key.pem")
        told = self.refusal(lambda relay: {"ssl_ca_certs": other})
        assert f"is not signed by a CA in the file '{other}' (ssl_ca_certs)" in told

    def test_one_that_has_expired_is_to_be_renewed(self) -> None:
        assert "has expired; renew it" in self.refusal(self.trusted, begins=timedelta(days=-9))

    def test_one_that_is_not_valid_yet_asks_for_the_clocks(self) -> None:
        assert "is not valid yet; check the clocks" in self.refusal(self.trusted, begins=timedelta(days=9))

    def test_one_for_another_host_asks_for_a_name_that_stands_in_it(self) -> None:
        assert "is for another host; connect to a name" in self.refusal(self.trusted, address="127.0.0.2")


class TestClients:
    @pytest.fixture(autouse=True)
    def _strict(self, tmp_path: Path) -> Iterator[None]:
        """A server that lets in whoever has the certificate in `clients`."""
        self.clients, key = tmp_path / "clients.pem", tmp_path / "clients-key.pem"
        certify(self.clients, key)
        with strict_server(tmp_path, self.clients) as self.url:
            yield

    def test_a_client_without_a_certificate_hears_the_options_for_it(self) -> None:
        told = refusals(open_layer(self.url))
        assert "requires a client certificate; name its files with ssl_certfile and ssl_keyfile" in told

    def test_a_client_with_a_certificate_that_is_not_accepted_hears_its_file(self, tmp_path: Path) -> None:
        mine, key = tmp_path / "mine.pem", tmp_path / "mine-key.pem"
        certify(mine, key)
        told = refusals(open_layer(f"{self.url}&ssl_certfile={mine}&ssl_keyfile={key}"))
        assert f"does not accept the client certificate '{mine}' (ssl_certfile)" in told


@contextmanager
def strict_server(directory: Path, clients: Path) -> Iterator[str]:
    """A URL of a server that wants certificates of its clients, and gets no further. Asyncio's would send no alert."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    certify(certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(clients)
    context.verify_mode = ssl.CERT_REQUIRED

    def serve() -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:  # it is over
                return
            with context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False) as connection:
                with suppress(ssl.SSLError):
                    connection.do_handshake()
                # Closed with something unread, the connection would be reset, and the alert be lost.
                socket.socket.shutdown(connection, socket.SHUT_WR)
                while socket.socket.recv(connection, 65_536):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"rediss://127.0.0.1:{listener.getsockname()[1]}/0?ssl_ca_certs={certificate}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(20)
