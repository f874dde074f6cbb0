"""Settings that travel into a cluster, workers that a plan needs, and the driver's one right."""

from __future__ import annotations

import http.server
import json
import logging
import os
import signal
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch import cli, config
from batch.config import Settings
from batch.config.cluster import ClusterSettings, KubernetesSettings
from batch.errors import BatchError, UsageError, WorkDirectoryBusyError
from batch.model.plan import Needs, Task
from batch.runtime import classes, driver, kubernetes, manifests, security, submit
from batch.runtime.driver import reduce
from batch.runtime.worker import environment
from batch.storage.workdir import WorkDirectory

CHANGES = [
    "fetch.source=/work/raw",
    "references.cache=/crds",
    "sweep.pixfrac=[0.5, 0.8]",
    "combine.scale=0.04",
    "select.rms_over_median=1e-7",
    'associate.exclude=["j9l960a7q"]',
    'cluster.kubernetes.node_selector={"a.b/c"="x=\\"y\\""}',
    'cluster.kubernetes.tolerations=[{key="spot"}]',
    "cluster.classes=[{memory='2 GiB', workers=2}, {memory=6442450944}]",
    "cluster.slurm.prologue=['module load x', 'export A=\"b\"']",
]


def test_settings_survive_the_journey(tmp_path: Path) -> None:
    settings = submit.prepared(config.load(None, CHANGES), "visit-abcde")
    [text] = submit.settings_map(settings)["data"].values()
    (tmp_path / "settings.toml").write_text(text)
    assert config.load(tmp_path / "settings.toml") == settings


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
        st.text(st.characters(exclude_categories=["Cs"])),
        max_size=3,
    )
)
def test_any_text_can_be_written_as_toml(values: dict[str, str]) -> None:
    import tomllib

    assert tomllib.loads(submit.toml({"section": {"key": values}})) == {"section": {"key": values}}


def test_a_submitted_run_makes_its_own_cluster() -> None:
    with pytest.raises(UsageError, match="leave out --scheduler"):
        submit.prepared(config.load(None, ["cluster.scheduler=tls://h:1"]), "x")


def test_runs_have_names_of_their_own() -> None:
    names = {submit.run_name("acs-batch") for _ in range(50)}
    assert len(names) == 50
    # whatever name is allowed, the operator takes what is made of it
    long = submit.run_name("a" * 30)
    assert len(f"{long}-scheduler") <= 63
    KubernetesSettings(name="a" * 30)
    with pytest.raises(ValueError, match="30"):
        KubernetesSettings(name="a" * 31)


def task(name: str, memory: int, seconds: float) -> Task:
    return Task(name, "asn", None, None, (), name, Needs(memory, seconds, 60))


def test_workers_are_made_for_the_plan() -> None:
    """Nine tenths of the time fit small workers; the large ones are as large as the largest task."""
    tasks = [task(f"s{n}", 400_000_000, 10) for n in range(9)] + [task("l", 3_000_000_000, 10)]
    small, large = classes.worker_classes(ClusterSettings(workers=10), tasks)
    assert (small.workers, large.workers) == (9, 1)
    assert classes.promised(small.memory) >= 400_000_000
    assert classes.promised(large.memory) >= 3_000_000_000
    assert small.memory % 2**28 == 0
    assert small.memory < 2**30


def test_one_class_where_all_tasks_are_alike() -> None:
    tasks = [task(f"t{n}", 1_000_000_000, 10) for n in range(3)]
    [only] = classes.worker_classes(ClusterSettings(), tasks)
    assert only.workers == 4
    [alone] = classes.worker_classes(ClusterSettings(workers=1), [*tasks, task("s", 10**8, 1)])
    assert alone.workers == 1


def test_classes_of_the_settings_come_first() -> None:
    given = ClusterSettings.model_validate({"classes": [{"memory": "2 GiB", "workers": 5}]})
    assert classes.worker_classes(given, [task("l", 10**10, 1)]) == given.classes


def test_threads_are_those_that_tasks_are_held_to() -> None:
    held = environment(7)
    assert set(classes.THREADS) == {name for name, value in held.items() if value == "7"}


def test_quantities() -> None:
    assert manifests.quantity(2**31) == "2Gi"
    assert manifests.quantity(2**28 * 3) == "768Mi"
    assert manifests.quantity(1000) == "1000"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("cluster.classes=[{memory=1, minimum=2}]", "come together"),
        ("cluster.classes=[{memory=1, minimum=3, maximum=2}]", "above maximum"),
        ("cluster.classes=[{memory=1}, {memory=2, minimum=1, maximum=2}]", "only the first class"),
        ("cluster.kubernetes.namespace=Not_A_Label", "namespace"),
        ("cluster.kubernetes.image=a b", "image"),
        ("cluster.tls=maybe", "tls"),
    ],
)
def test_settings_that_are_refused(change: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config.load(None, [change])


class Asked(http.server.BaseHTTPRequestHandler):
    """An API server that remembers what was asked."""

    seen: list[tuple[str, str, str]]

    def do_DELETE(self) -> None:
        self.seen.append((self.command, self.path, self.headers["Authorization"]))
        self.send_response(200 if self.headers["Authorization"] == "Bearer toy-token" else 403)
        self.end_headers()
        self.wfile.write(json.dumps({"kind": "Status"}).encode())

    def log_message(self, *args: Any) -> None:
        return


@pytest.fixture
def api(tmp_path: Path) -> Iterator[tuple[dict[str, str], Path, list[Any]]]:
    """Environment and token as in the driver's pod; the API server's certificate is for 127.0.0.1."""
    import ipaddress

    from cryptography import x509

    made = security.issue(names=[x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    files = security.write(made, tmp_path / "server")
    token = tmp_path / "token"
    token.mkdir()
    (token / "token").write_text("toy-token\n")
    (token / "ca.crt").write_text(made.ca)
    handler = type("Handler", (Asked,), {"seen": []})
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.cert, files.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    where = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.server_port)}
    yield where, token, handler.seen  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


OWN = KubernetesSettings(namespace="hst", name="visit-abcde")


def test_the_driver_removes_its_cluster(api: Any) -> None:
    where, token, seen = api
    kubernetes.remove(OWN, where, token)
    path = "/apis/kubernetes.dask.org/v1/namespaces/hst/daskclusters/visit-abcde"
    assert seen == [("DELETE", path, "Bearer toy-token")]


def submitted(tmp_path: Path, source: Path) -> Settings:
    settings = config.load(None, [f"fetch.source={source}", f"references.cache={tmp_path}"])
    cluster = ClusterSettings(kind="kubernetes", kubernetes=OWN.model_copy(update={"existing": True}))
    return settings.model_copy(update={"cluster": cluster})


@pytest.fixture
def seen(api: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the API server is asked for in the driver's pod."""
    where, token, seen = api
    for name, value in where.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(kubernetes, "TOKEN", token)
    return seen  # type: ignore[no-any-return]


def test_a_driver_that_fails_before_it_connects_removes_its_cluster(seen: list[Any], tmp_path: Path) -> None:
    """The Job makes no second attempt then."""
    with pytest.raises(BatchError, match="nothing"):
        reduce(submitted(tmp_path, tmp_path / "nothing"), tmp_path / "work")
    assert [verb for verb, _, _ in seen] == ["DELETE"]


def test_a_driver_that_is_told_to_go_leaves_its_cluster(
    seen: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go(*args: Any, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(driver, "make_plan", go)
    with pytest.raises(KeyboardInterrupt):
        reduce(submitted(tmp_path, tmp_path), tmp_path / "work")
    assert not seen


def test_a_driver_that_finds_another_leaves_its_cluster_to_it(seen: list[Any], tmp_path: Path) -> None:
    with WorkDirectory(tmp_path / "work").writer(), pytest.raises(WorkDirectoryBusyError):
        reduce(submitted(tmp_path, tmp_path), tmp_path / "work")
    assert not seen


def test_no_exit_of_the_driver_is_tried_again_but_a_lost_pod() -> None:
    """`cli` knows no others; a second attempt would undo `acs-batch cancel`."""
    whole = config.load(None, ["fetch.source=/work/raw", "references.cache=/crds"])
    job = submit.documents(submit.prepared(whole, "visit-abcde"), "/work/visit", [], None)[0]
    disrupted, ended = job["spec"]["podFailurePolicy"]["rules"]
    assert disrupted["action"] == "Ignore"
    assert ended["action"] == "FailJob"
    known = {cli.BROKEN, cli.WITH_FAILURES, cli.INTERRUPTED, UsageError.exit_code}
    assert set(ended["onExitCodes"]["values"]) == known


def test_what_goes_wrong_then_is_said_without_the_token(api: Any, caplog: pytest.LogCaptureFixture) -> None:
    where, token, seen = api
    (token / "token").write_text("wrong-token")
    with caplog.at_level(logging.WARNING):
        kubernetes.remove(OWN, where, token)
        kubernetes.remove(OWN, where, token.parent / "nowhere")
        kubernetes.remove(OWN, {}, token)
    assert len(seen) == 1
    messages = [r.getMessage() for r in caplog.records]
    assert len(messages) == 3
    assert "403" in messages[0]
    assert "No such file" in messages[1]
    assert "not within Kubernetes" in messages[2]
    assert not any("wrong-token" in m for m in messages)


def test_the_token_goes_to_nobody_else(api: Any, tmp_path: Path) -> None:
    """A server with a certificate of another authority never sees it."""
    where, token, seen = api
    (token / "ca.crt").write_text(security.issue().ca)
    kubernetes.remove(OWN, where, token)
    assert not seen
