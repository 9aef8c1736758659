"""The keys and certificates of one test cluster, written as PEM files."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Tests need minutes; a cluster a person started may be left running for long.
_LIFETIME = timedelta(days=365)
_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True)
class Identity:
    """A key and what the authority says about it, as PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Certificates:
    """The files of one cluster.

    Attributes:
        ca: The authority's certificate, which clients and the API server trust.
        server: The API server.
        admin: A client in the group ``system:masters``, for which every request is allowed.
        service_account_key: Signs and verifies ServiceAccount tokens.
    """

    ca: Path
    server: Identity
    admin: Identity
    service_account_key: Path


def write_certificates(folder: Path, *, names: Sequence[str], addresses: Sequence[str]) -> Certificates:
    """Make a new authority and what it signs.

    Args:
        folder: Where the files go; existing ones are replaced.
        names: DNS names the API server is reached by.
        addresses: IP addresses the API server is reached by.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca_key = _write_key(folder / "ca.key")
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test-cluster-ca")])
    ca = folder / "ca.crt"
    builder = _builder(ca_name, ca_key.public_key(), ca_name)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).add_extension(
        _SIGNS_CERTIFICATES, critical=True
    )
    _sign(builder, ca_key, ca)

    server = Identity(folder / "server.crt", folder / "server.key")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    alternatives = [x509.DNSName(name) for name in names] + [
        x509.IPAddress(ipaddress.ip_address(address)) for address in addresses
    ]
    builder = (
        _builder(subject, _write_key(server.key).public_key(), ca_name)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    _sign(builder, ca_key, server.certificate)

    admin = Identity(folder / "admin.crt", folder / "admin.key")
    # The API server takes the user from the common name and the groups from the organizations.
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters"),
            x509.NameAttribute(NameOID.COMMON_NAME, "admin"),
        ]
    )
    builder = _builder(subject, _write_key(admin.key).public_key(), ca_name).add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
    )
    _sign(builder, ca_key, admin.certificate)

    service_account_key = folder / "service-account.key"
    _write_key(service_account_key)
    return Certificates(ca, server, admin, service_account_key)


def _write_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return key


def _builder(subject: x509.Name, key: ec.EllipticCurvePublicKey, issuer: x509.Name) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # tolerates a clock that is set back
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, path: Path) -> None:
    # Python verifies strictly since 3.13 (ssl.VERIFY_X509_STRICT) and then asks for both key identifiers.
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
