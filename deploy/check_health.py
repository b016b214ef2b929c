"""Say by the exit code whether a service of compose.yaml is well; compose asks every few seconds.

python deploy/check_health.py grpc HOST:PORT CA_FILE    the service answers grpc.health.v1 with SERVING
python deploy/check_health.py nats HOST PORT            the NATS server greets
python deploy/check_health.py connected PORT            a process in this container is connected to that port
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_S = 4.0
GREETING = b"INFO "


def main(arguments: list[str]) -> int:
    """Return 0 when it is well, 1 when not, 2 when it was asked wrongly."""
    match arguments:
        case ["grpc", address, ca_file]:
            well = answers(address, Path(ca_file))
        case ["nats", host, port]:
            well = greets(host, int(port))
        case ["connected", port]:
            well = is_connected(int(port))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0 if well else 1


def answers(address: str, ca_file: Path) -> bool:
    """Whether the gRPC server behind TLS says SERVING."""
    request = health_pb2.HealthCheckRequest()
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(ca_file.read_bytes())) as channel:
        try:
            stub = health_pb2_grpc.HealthStub(channel)
            response = stub.Check(request, timeout=TIMEOUT_S)  # type: ignore[attr-defined]  # missing in the stubs
        except grpc.RpcError as error:
            print(error, file=sys.stderr)
            return False
    return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


def greets(host: str, port: int) -> bool:
    """Whether a NATS server speaks first, as the protocol says (before TLS)."""
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_S) as connection:
            return connection.recv(len(GREETING)) == GREETING
    except OSError as error:
        print(error, file=sys.stderr)
        return False


def is_connected(port: int) -> bool:
    """Whether a connection to that port is up; a runner listens nowhere, so this is what can be seen of it."""
    connections = psutil.net_connections(kind="tcp")
    return any(one.status == psutil.CONN_ESTABLISHED and one.raddr and one.raddr.port == port for one in connections)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
