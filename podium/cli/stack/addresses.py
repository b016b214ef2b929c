"""HOST:PORT as people write it: taken apart, checked for being free, and as it is reached from this machine."""

import errno
import socket

from podium.cli.failures import CliError
from podium.errors import InvalidArgument
from podium.settings import LOOPBACK


def split(listen: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT; raises InvalidArgument, also for a host that others can reach."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise InvalidArgument("--listen", found=listen, expected="HOST:PORT, e.g. 127.0.0.1:7460")
    if host not in LOOPBACK:
        expected = "a loopback host; off loopback run the services singly with TLS (docs/operations.md)"
        raise InvalidArgument("--listen", found=listen, expected=expected)
    return host, int(port)


def require_free(host: str, port: int) -> None:
    """Raise CliError PORT_IN_USE when somebody listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As gRPC does: a port whose last connections still linger can be listened on.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise InvalidArgument("--listen", found=f"{host}:{port}", expected=str(error)) from error
            raise port_in_use(f"{host}:{port}", error.strerror or "") from error


def port_in_use(address: str, why: str = "Address already in use") -> CliError:
    """Return the error for an address that cannot be listened on."""
    advice = "Choose another with --listen HOST:PORT (port 0 takes a free one), or end what listens there."
    return CliError("PORT_IN_USE", f"{address} cannot be listened on: {why}", advice, address=address)
