"""The server around the services: TLS, health, reflection, graceful stop, several gateways side by side."""

import asyncio
import datetime as dt
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from podium import rpc
from podium.errors import InvalidArgument
from podium.eventlog import EventLog
from podium.settings import ServiceSettings
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api
from podium.v1.session_service_pb2_grpc import SessionServiceStub
from tests.integration.gateway.test_commands import created, events_of, fresh, kinds, refused, said
from tests.integration.gateway.test_watching import into
from tests.support import gateways
from tests.support.gateways import Gateway

# grpc's stubs know these clients for synchronous channels only.
health_stub: Any = health_pb2_grpc.HealthStub
reflection_stub: Any = reflection_pb2_grpc.ServerReflectionStub


def certificate(folder: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "podium test")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "tls.crt", folder / "tls.key"
    chain.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return chain, private


@asynccontextmanager
async def another(settings: ServiceSettings, folder: Path, **given: Any) -> AsyncIterator[Gateway]:
    async with gateways.gateway(settings, folder, **given) as gateway:
        yield gateway


async def test_two_gateways_give_one_request_one_effect(
    gateway: Gateway, log_server: ServiceSettings, runner_log: EventLog, tmp_path: Path
) -> None:
    async with another(log_server, tmp_path) as other:
        name = (await created(gateway)).session.name
        start = api.StartTurnRequest(request_id=fresh(), session=name, turn=said("hello"))
        both = [one.sessions.StartTurn(start) for one in (gateway, other) for _ in range(25)]
        answers = await asyncio.gather(*both)
        assert len({answer.SerializeToString() for answer in answers}) == 1
        assert kinds(await events_of(runner_log, name)) == ["session_created", "turn_requested"]


async def test_a_gateway_that_is_gone_is_replaced_by_any_other(
    gateway: Gateway, log_server: ServiceSettings, tmp_path: Path
) -> None:
    request_id = fresh()
    async with another(log_server, tmp_path) as short_lived:
        answer = await created(short_lived, "hello", request_id=request_id)
    assert await created(gateway, "hello", request_id=request_id) == answer


async def test_tls_carries_the_token(log_server: ServiceSettings, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    async with another(log_server, tmp_path / "g", tls_certificate_file=chain, tls_key_file=key) as gateway:
        async with rpc.channel(f"127.0.0.1:{gateway.port}", gateways.token("admin"), chain) as channel:
            answer = await SessionServiceStub(channel).CreateSession(
                api.CreateSessionRequest(request_id=fresh(), session=s.Session(title="over TLS"))
            )
            assert answer.session.title == "over TLS"
        with pytest.raises(grpc.aio.AioRpcError):
            await gateway.sessions.ListRunners(api.ListRunnersRequest(), timeout=5)


async def test_plain_text_off_loopback_is_refused(log_server: ServiceSettings, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="PODIUM_LISTEN"):
        async with another(log_server, tmp_path, listen="0.0.0.0:0"):
            pass


async def test_a_port_in_use_is_said_so(gateway: Gateway, log_server: ServiceSettings, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="a port that is free"):
        async with another(log_server, tmp_path, listen=f"127.0.0.1:{gateway.port}"):
            pass


async def test_health_is_told_to_everybody_and_the_contract_to_those_with_a_token(gateway: Gateway) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as nobody:
        for name in ("", "podium.v1.SessionService", "podium.v1.AnalyticsService"):
            status = await health_stub(nobody).Check(health_pb2.HealthCheckRequest(service=name))
            assert status.status == health_pb2.HealthCheckResponse.SERVING
    listing = reflection_pb2.ServerReflectionRequest(list_services="")
    call = reflection_stub(gateway.channel).ServerReflectionInfo(
        iter([listing]), metadata=(("authorization", f"Bearer {gateways.token('reader')}"),)
    )
    async for answer in call:
        names = {service.name for service in answer.list_services_response.service}
        assert {"podium.v1.SessionService", "podium.v1.AnalyticsService"} <= names
        break


async def test_a_watch_ends_with_an_error_when_its_gateway_stops(log_server: ServiceSettings, tmp_path: Path) -> None:
    async with another(log_server, tmp_path) as gateway:
        name = (await created(gateway)).session.name
        channel = gateway.channel_as("reader")
        call = SessionServiceStub(channel).WatchSession(api.WatchSessionRequest(session=name))
        await anext(aiter(call))
    async with channel:
        assert (await refused(into([], call))).code in ("UNAVAILABLE", "CANCELLED", "UNKNOWN")
