import json
from pathlib import Path

import pytest

from podium.eventlog import serverconfig
from podium.eventlog.credentials import generated
from podium.eventlog.roles import Role
from podium.eventlog.serverconfig import ServerSettings, ServerSettingsError, TlsFiles, masked, render, store_limit

DATA = Path("/data/nats")
CREDENTIALS = generated()


def rendered(settings: ServerSettings) -> dict[str, object]:
    text = render(
        settings, name="n1", port=4222, store_bytes=10_000_000, credentials=CREDENTIALS, log_file=DATA / "server.log"
    )
    content: dict[str, object] = json.loads(text)
    return content


@pytest.mark.parametrize("sync", [0, 19, 101, 120_000])
def test_a_sync_interval_that_could_lose_more_than_100_ms_is_refused(sync: int) -> None:
    with pytest.raises(ServerSettingsError, match="expected 20 to 100"):
        ServerSettings(data=DATA, sync=sync)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "nats.example.org"])
def test_a_host_that_others_reach_needs_tls_or_an_explicit_yes(host: str) -> None:
    with pytest.raises(ServerSettingsError, match="give a certificate"):
        ServerSettings(data=DATA, host=host)
    ServerSettings(data=DATA, host=host, tls=TlsFiles(DATA / "cert.pem", DATA / "key.pem"))
    ServerSettings(data=DATA, host=host, plaintext_beyond_loopback=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_tls(host: str) -> None:
    assert ServerSettings(data=DATA, host=host).tls is None


def test_every_role_is_a_user_with_its_own_password_and_permissions() -> None:
    account = rendered(ServerSettings(data=DATA))["accounts"]
    assert isinstance(account, dict)
    users = {user["user"]: user for user in account[serverconfig.ACCOUNT]["users"]}
    assert users.keys() == {"gateway", "runner", "indexer", "operator"}
    assert len({user["password"] for user in users.values()}) == 4
    assert all(user["permissions"]["publish"]["allow"] for user in users.values())


def test_nobody_connects_without_being_a_user() -> None:
    config = rendered(ServerSettings(data=DATA))
    assert "no_auth_user" not in config
    assert "authorization" not in config


def test_production_fsyncs_before_it_acknowledges() -> None:
    jetstream = rendered(ServerSettings(data=DATA, sync="always"))["jetstream"]
    assert isinstance(jetstream, dict)
    assert jetstream["sync_interval"] == "always"
    assert jetstream["store_dir"] == "/data/nats/store"


def test_a_shown_configuration_holds_no_password() -> None:
    text = render(ServerSettings(data=DATA), name="n1", port=1, store_bytes=1, credentials=CREDENTIALS, log_file=None)
    shown = masked(text, CREDENTIALS)
    assert not any(CREDENTIALS.password(role) in shown for role in Role)
    assert "<password of gateway>" in shown


def test_settings_and_credentials_do_not_show_secrets_when_printed() -> None:
    assert CREDENTIALS.password(Role.RUNNER) not in repr(CREDENTIALS)


@pytest.mark.parametrize(
    ("free", "used", "limit"),
    [
        (10_000, 0, 10_000 - 512),
        (10_000, 90_000, 100_000 - 512),
        # A full disk: what is there stays readable and is not over the limit.
        (0, 90_000, 90_000),
        (0, 0, 1),
    ],
)
def test_what_is_stored_counts_towards_what_may_be_stored(free: int, used: int, limit: int) -> None:
    mib = 1024 * 1024
    assert store_limit(free_bytes=free * mib, used_bytes=used * mib) == limit * mib
