"""TLS between driver, scheduler and workers: certificates of a run, and who may do without.

A Dask scheduler runs whatever it is handed: without certificates, whoever reaches its port runs code as its
user. All three speak TLS with certificates checked on both ends (`distributed.Security`), so that a client
without a certificate of the same authority cannot even say hello. ``python -m batch.runtime.security FOLDER``
writes certificates for a scheduler and workers that are started by hand.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from batch.config.cluster import TlsFiles
from batch.errors import UsageError

if TYPE_CHECKING:
    from cryptography.x509 import GeneralName
    from distributed import Security

CA, CERT, KEY = "ca.crt", "tls.crt", "tls.key"
"""File names, also those of a Kubernetes secret."""
_DAYS = 90
_HELP = (
    'give certificates with --set \'cluster.tls={ca="ca.crt",cert="tls.crt",key="tls.key"}\' '
    "(python -m batch.runtime.security FOLDER makes some)"
)


@dataclass(frozen=True)
class Certificates:
    """An authority's certificate, one it signed, and that one's key, as PEM text."""

    ca: str
    cert: str
    key: str = field(repr=False)


def issue(days: int = _DAYS, names: Sequence[GeneralName] = ()) -> Certificates:
    """A new authority and one certificate for client, scheduler and workers of a run.

    The authority's own key is forgotten at once: nobody can sign a second certificate.

    Parameters
    ----------
    days : int
        How long the certificates are valid; longer than any run.
    names : sequence of GeneralName
        Further names of the certificate; Dask looks at the authority alone.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def certificate(
        name: str, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType
    ) -> x509.Certificate:
        # clocks of other machines may be behind
        start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
        made = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("acs-batch run"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=days))
        )
        for extension in extensions:
            made = made.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return made.sign(authority, hashes.SHA256())

    authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = certificate("acs-batch run", authority, x509.BasicConstraints(ca=True, path_length=0))
    cert = certificate(
        "acs-batch",
        own,
        x509.BasicConstraints(ca=False, path_length=None),
        x509.SubjectAlternativeName([x509.DNSName("acs-batch"), *names]),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
    )
    key = own.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = serialization.Encoding.PEM
    return Certificates(ca.public_bytes(pem).decode(), cert.public_bytes(pem).decode(), key.decode())


def write(certificates: Certificates, folder: Path) -> TlsFiles:
    """Write certificates into a new folder that only its owner may enter (0700, files 0600).

    Raises
    ------
    UsageError
        If the folder is there already: keys are never overwritten.
    """
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise UsageError(f"{folder}: is there already; name a new folder for certificates") from None
    for name, text in ((CA, certificates.ca), (CERT, certificates.cert), (KEY, certificates.key)):
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    return TlsFiles(ca=folder / CA, cert=folder / CERT, key=folder / KEY)


def read(files: TlsFiles) -> Certificates:
    """The certificates in files, which must belong together.

    Raises
    ------
    UsageError
        For files that cannot be read, are no PEM, do not belong together, or a key that all may read.
    """
    try:
        if stat.S_IMODE(files.key.stat().st_mode) & stat.S_IRWXO:
            raise UsageError(f"{files.key}: everybody may read this key; chmod 600 it")
        found = Certificates(*(p.read_text() for p in (files.ca, files.cert, files.key)))
        context = ssl.create_default_context(cadata=found.ca)
        context.load_cert_chain(files.cert, files.key)
        return found
    except ssl.SSLError as error:
        raise UsageError(
            f"cluster.tls: {files.ca}, {files.cert}, {files.key} are no certificates that belong together "
            f"({error.reason})"
        ) from None
    except OSError as error:
        raise UsageError(f"cluster.tls: {error.filename}: {error.strerror}") from None


def security(source: TlsFiles | Certificates) -> Security:
    """What distributed wants to know, for all three roles.

    Raises
    ------
    UsageError
        See `read`.
    """
    from distributed import Security

    if isinstance(source, TlsFiles):
        read(source)
    parts = {"cert": str(source.cert), "key": str(source.key)}
    roles = {f"tls_{role}_{k}": v for role in ("client", "scheduler", "worker") for k, v in parts.items()}
    return Security(require_encryption=True, tls_ca_file=str(source.ca), **roles)


def for_address(address: str, tls: TlsFiles | Literal["auto", "off"]) -> Security | None:
    """How to speak to a scheduler that runs already; None: plainly.

    Raises
    ------
    UsageError
        If that would be a plain connection to another machine that nobody asked for, or certificates are
        missing or cannot be used.
    """
    from distributed import Security

    encrypted = address.startswith(("tls://", "wss://"))
    if isinstance(tls, TlsFiles):
        if not encrypted:
            raise UsageError(f"--scheduler {address}: certificates are given, but this is no tls:// address")
        return security(tls)
    if encrypted:
        configured = Security()
        if tls == "off":
            raise UsageError(f"--scheduler {address}: cluster.tls is off, but this is a tls:// address")
        if not (configured.tls_ca_file and configured.tls_client_cert):
            raise UsageError(f"--scheduler {address}: no certificates for it; {_HELP}")
        return configured
    if tls == "auto" and not _within_this_machine(address):
        raise UsageError(
            f"--scheduler {address}: a plain connection to another machine, over which anybody who reaches "
            f"that port can run code; start scheduler and workers with TLS and {_HELP}, or allow it with "
            "--set cluster.tls=off"
        )
    return None


def _within_this_machine(address: str) -> bool:
    host = address.rpartition("://")[2].rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    made = write(issue(), Path(sys.argv[1]).absolute())
    print(f"--tls-ca-file {made.ca} --tls-cert {made.cert} --tls-key {made.key}")
