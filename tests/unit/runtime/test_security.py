"""Certificates, and who may do without."""

from __future__ import annotations

import ssl
import stat
import subprocess
import sys
from pathlib import Path

import dask
import pytest
from cryptography import x509

from batch.config.cluster import TlsFiles
from batch.errors import UsageError
from batch.runtime import security


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return security.write(security.issue(), tmp_path / "tls")


def handshake(server: TlsFiles, client: TlsFiles) -> None:
    """TLS between two ends in memory, with the contexts that distributed makes."""
    ends = (
        security.security(client).get_connection_args("client")["ssl_context"],
        security.security(server).get_listen_args("scheduler")["ssl_context"],
    )
    wires = ssl.MemoryBIO(), ssl.MemoryBIO()
    sockets = [
        ends[0].wrap_bio(wires[0], wires[1], server_side=False),
        ends[1].wrap_bio(wires[1], wires[0], server_side=True),
    ]
    for _ in range(4):
        for socket in sockets:
            try:
                socket.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_the_certificates_of_a_run_trust_each_other_and_no_others(files: TlsFiles, tmp_path: Path) -> None:
    handshake(files, files)
    other = security.write(security.issue(), tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(files, other)


def test_a_certificate_that_is_no_authority_signs_nothing(files: TlsFiles, tmp_path: Path) -> None:
    """Whoever holds the run's key must not be able to make keys for others."""
    certificate = x509.load_pem_x509_certificate(files.cert.read_bytes())
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_only_the_owner_reads_the_files(files: TlsFiles) -> None:
    assert stat.S_IMODE(files.key.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in files.key.parent.iterdir()} == {0o600}


def test_keys_are_not_overwritten(files: TlsFiles) -> None:
    with pytest.raises(UsageError, match="is there already"):
        security.write(security.issue(), files.key.parent)


def test_a_key_is_not_shown(files: TlsFiles) -> None:
    made = security.read(files)
    secret = made.key.splitlines()[1]
    assert secret not in repr(made)
    assert secret not in repr(security.security(made))


def test_a_key_that_all_may_read_is_refused(files: TlsFiles) -> None:
    files.key.chmod(0o644)
    with pytest.raises(UsageError, match="everybody may read this key"):
        security.security(files)


def test_files_that_are_missing_or_belong_to_others(files: TlsFiles, tmp_path: Path) -> None:
    other = security.write(security.issue(), tmp_path / "other")
    with pytest.raises(UsageError, match="belong together"):
        security.security(TlsFiles(ca=files.ca, cert=files.cert, key=other.key))
    with pytest.raises(UsageError, match=r"nothing\.crt: No such file"):
        security.security(TlsFiles(ca=files.ca, cert=tmp_path / "nothing.crt", key=files.key))


@pytest.mark.parametrize(
    "address", ["tcp://10.1.2.3:8786", "node7:8786", "tcp://[2001:db8::1]:1", "ws://h:1"]
)
def test_a_plain_connection_to_another_machine_is_asked_for_or_refused(address: str) -> None:
    with pytest.raises(UsageError, match=r"a plain connection to another machine.*cluster\.tls=off"):
        security.for_address(address, "auto")
    assert security.for_address(address, "off") is None


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "tcp://localhost:8786", "tcp://[::1]:1"])
def test_within_one_machine_nothing_is_asked(address: str) -> None:
    assert security.for_address(address, "auto") is None


def test_an_encrypted_address_needs_certificates(files: TlsFiles) -> None:
    with pytest.raises(UsageError, match="no certificates for it"):
        security.for_address("tls://host:8786", "auto")
    with pytest.raises(UsageError, match=r"cluster\.tls is off"):
        security.for_address("tls://host:8786", "off")
    with pytest.raises(UsageError, match="no tls:// address"):
        security.for_address("tcp://host:8786", files)
    made = security.for_address("tls://host:8786", files)
    assert made is not None
    assert made.require_encryption


def test_dasks_own_configuration_will_do(files: TlsFiles) -> None:
    own = {"ca-file": files.ca, "client.cert": files.cert, "client.key": files.key}
    with dask.config.set({f"distributed.comm.tls.{k}": str(v) for k, v in own.items()}):
        made = security.for_address("tls://host:8786", "auto")
    assert made is not None
    assert made.tls_client_key == str(files.key)


def test_certificates_for_a_cluster_that_is_started_by_hand(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "batch.runtime.security", str(tmp_path / "tls")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"--tls-ca-file {tmp_path}/tls/ca.crt --tls-cert")
    assert "PRIVATE" not in done.stdout
    made = TlsFiles(ca=tmp_path / "tls/ca.crt", cert=tmp_path / "tls/tls.crt", key=tmp_path / "tls/tls.key")
    handshake(made, made)
