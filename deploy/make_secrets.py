"""Make the secrets of a compose deployment, once: certificates, NATS passwords, tokens.

    python deploy/make_secrets.py FOLDER [--name HOST ...]

FOLDER gets one folder for each service, with what that service may know and no more, all of it mode 0600:

    nats/      tls.crt tls.key ca.crt, and one password for each role
    gateway/   tls.crt tls.key ca.crt nats.json tokens.json indexer.token
    indexer/   tls.crt tls.key ca.crt nats.json tokens.json
    runner/    ca.crt nats.json
    operator/  ca.crt nats.json
    client/    ca.crt token            (a token named `operator` with the role admin)

What is there stays; to change everything, remove the volumes. The CA's own key is thrown away.
"""

from __future__ import annotations

import argparse
import datetime as dt
import ipaddress
import json
import secrets
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from podium import auth
from podium.eventlog import Role

CERTIFICATE_DAYS = 730
PASSWORD_BYTES = 32
SERVERS = ("nats", "gateway", "indexer")
# Written last: a run that broke off starts again.
COMPLETE = "complete"


def main(arguments: Sequence[str]) -> int:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", action="append", default=[], help="a name or address by which clients reach it")
    chosen = parser.parse_args(arguments)
    folder: Path = chosen.folder
    if (folder / "client" / COMPLETE).exists():
        print(f"{folder}: complete; nothing to do")
        return 0
    make(folder, [name for name in chosen.name if name])
    (folder / "client" / COMPLETE).touch()
    print(f"{folder}: made certificates, passwords and tokens")
    return 0


def make(folder: Path, public_names: Iterable[str]) -> None:
    """Write every service's folder."""
    authority = Authority()
    for service in (*SERVERS, "runner", "operator", "client"):
        (folder / service).mkdir(mode=0o700, parents=True, exist_ok=True)
        auth.write_private(folder / service / "ca.crt", authority.certificate)
    for service in SERVERS:
        key, certificate = authority.issue([service, "localhost", "127.0.0.1", *public_names])
        auth.write_private(folder / service / "tls.key", key)
        auth.write_private(folder / service / "tls.crt", certificate)
    for role in Role:
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        auth.write_private(folder / "nats" / f"{role.value}.password", password.encode())
        auth.write_private(folder / role.value / "nats.json", json.dumps({role.value: password}).encode())
    client, relay = auth.new_token(), auth.new_token()
    auth.write_tokens(folder / "gateway" / "tokens.json", [auth.entry("operator", [auth.Role.ADMIN], client)])
    auth.write_tokens(folder / "indexer" / "tokens.json", [auth.entry("gateway", [auth.Role.ADMIN], relay)])
    auth.write_private(folder / "client" / "token", client.encode())
    auth.write_private(folder / "gateway" / "indexer.token", relay.encode())


class Authority:
    """A CA that lives as long as this process."""

    def __init__(self) -> None:
        """Make the CA's key and its certificate."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Podium deployment CA")])
        own = _builder(self._name, self._name, self._key.public_key())
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        own = own.add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
        own = own.add_extension(_usage(signs_certificates=True), critical=True)
        self.certificate = own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, names: Sequence[str]) -> tuple[bytes, bytes]:
        """Return a key and a server certificate for the names and addresses, both PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        signed = _builder(subject, self._name, key.public_key())
        signed = signed.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        signed = signed.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        signed = signed.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )
        signed = signed.add_extension(_usage(signs_certificates=False), critical=True)
        signed = signed.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return pem, signed.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    # An hour back: the clocks of two machines differ.
    builder = builder.not_valid_before(now - dt.timedelta(hours=1))
    return builder.not_valid_after(now + dt.timedelta(days=CERTIFICATE_DAYS))


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
