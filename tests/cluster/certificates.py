"""A certificate authority for one run, and the API server's certificate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

_LIFE = timedelta(days=1)


def write_certificates(directory: Path, addresses: list[str]) -> None:
    """ca.crt, server.crt and server.key for these addresses; account.key and account.pub."""
    now = datetime.now(UTC)
    ca_key, server_key, account_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    ca_name = _name("test-ca")

    def builder(name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(ca_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + _LIFE)
        )

    authority = builder(ca_name, ca_key).add_extension(x509.BasicConstraints(True, None), True)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(a)) for a in addresses])
    server = builder(_name("kube-apiserver"), server_key).add_extension(names, False)
    for path, certificate in (("ca.crt", authority), ("server.crt", server)):
        signed = certificate.sign(ca_key, hashes.SHA256())
        (directory / path).write_bytes(signed.public_bytes(Encoding.PEM))
    for path, key in (("server.key", server_key), ("account.key", account_key)):
        (directory / path).touch(mode=0o600)
        (directory / path).write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
    public = account_key.public_key()
    (directory / "account.pub").write_bytes(
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
