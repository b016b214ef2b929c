"""From a service's settings to its connection: which servers, which password, which certificates."""

import ssl

from podium.errors import InvalidArgument
from podium.eventlog import credentials
from podium.eventlog.connection import LogSettings
from podium.eventlog.layout import Limits
from podium.eventlog.roles import Role
from podium.settings import LOOPBACK, ServiceSettings


def log_settings(settings: ServiceSettings, role: Role) -> LogSettings:
    """Return how `role` connects; raises InvalidArgument for a missing password, or plain text off loopback."""
    servers = tuple(url.strip() for url in settings.nats_url.split(",") if url.strip())
    _refuse_plain_text(servers)
    try:
        password = credentials.load(settings.nats_credentials_file).password(role)
    except credentials.CredentialsError as error:
        found, expected = str(settings.nats_credentials_file), f"a file with the password of {role.value}: {error}"
        raise InvalidArgument("PODIUM_NATS_CREDENTIALS_FILE", found=found, expected=expected) from error
    limits = Limits(replicas=settings.nats_replicas)
    return LogSettings(servers, password, tls=_tls(settings), limits=limits, outage_s=settings.outage_s)


def _refuse_plain_text(servers: tuple[str, ...]) -> None:
    for server in servers:
        scheme, _, rest = server.partition("://")
        host = rest.rpartition(":")[0] or rest
        if scheme != "tls" and host not in LOOPBACK:
            raise InvalidArgument("PODIUM_NATS_URL", found=server, expected="tls://HOST:PORT for a server off loopback")


def _tls(settings: ServiceSettings) -> ssl.SSLContext | None:
    if settings.nats_ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(settings.nats_ca_file))
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument("PODIUM_NATS_CA_FILE", found=str(error), expected="a PEM file with a CA") from error
