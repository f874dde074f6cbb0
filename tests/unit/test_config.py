"""Settings: TOML, --set, and one message for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch.config import Settings, identity, load, override, section
from batch.errors import UsageError


def test_defaults_are_the_tutorials() -> None:
    settings = Settings()
    assert settings.combine.bits == (16, 64, 256)
    assert settings.sweep.pixfrac == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert settings.select.rms_over_median == 0.2


def test_a_file_and_changes(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('[sweep]\npixfrac = [0.5]\nkernel = "point"\n')
    settings = load(path, ["sweep.pixfrac=[0.8,0.5]", "wcs.use_db=true", "references.context=hst_0729.pmap"])
    assert settings.sweep.pixfrac == (0.5, 0.8)
    assert settings.sweep.kernel == ("point",)
    assert settings.wcs.use_db
    assert settings.references.context == "hst_0729.pmap"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sweep.pixfrac=[1.5]", r"sweep\.pixfrac"),
        ("sweep.pixfrac=[]", r"sweep\.pixfrac"),
        ("sweep.pixfrac=[0]", r"sweep\.pixfrac"),
        ("sweep.pixfrac=[nan]", r"sweep\.pixfrac"),
        ("sweep.scale=[-0.03]", r"sweep\.scale"),
        ("sweep.scale=[0.00001]", r"sweep\.scale"),
        ("sweep.kernel=[]", r"sweep\.kernel"),
        ("sweep.kernel=['square', 'lanczos']", r"sweep\.kernel"),
        ("sweep.pixfac=[0.5]", r"sweep\.pixfac"),
        ("swep.pixfrac=[0.5]", "swep"),
        ("sweep=1", "section.key=value"),
        ("combine.scale=-1", r"combine\.scale"),
        ("calibrate.engine=magic", r"calibrate\.engine"),
        ("sweep.engine=magic", r"sweep\.engine"),
    ],
)
def test_what_is_wrong_is_named(change: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(None, [change])


@pytest.mark.parametrize("content", ["[sweep", "\xff\xfe", "sweep = 1"])
def test_a_bad_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=r"bad\.toml"):
        load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml"):
        load(tmp_path / "none.toml")


def test_pixfracs_from_arithmetic_are_rounded() -> None:
    assert load(None, ["sweep.pixfrac=[0.30000000000000004, 0.3]"]).sweep.pixfrac == (0.3,)


def test_scales_and_kernels_are_one_or_several() -> None:
    one = load(None, ["sweep.scale=0.04", "sweep.kernel=turbo", "sweep.pixfrac=0.5"]).sweep
    assert (one.scale, one.kernel, one.pixfrac) == ((0.04,), ("turbo",), (0.5,))
    several = load(
        None, ["sweep.scale=[0.05, 0.03, 0.05]", "sweep.kernel=['turbo', 'square', 'turbo']"]
    ).sweep
    assert several.scale == (0.03, 0.05)
    assert several.kernel == ("turbo", "square")


def test_none_leaves_a_key_as_it_is() -> None:
    settings = override(
        load(None, ["cluster.workers=3"]), {"cluster": {"workers": None, "scheduler": "tcp://x:1"}}
    )
    assert settings.cluster.workers == 3
    assert settings.cluster.scheduler == "tcp://x:1"
    with pytest.raises(UsageError, match=r"references\.missing"):
        override(settings, {"references": {"missing": "perhaps"}})


def test_sections_come_back_from_json() -> None:
    settings = load(None, ["sweep.pixfrac=[0.5]", "fetch.source=somewhere"])
    content = settings.model_dump(mode="json")
    assert section("sweep", content["sweep"]) == settings.sweep
    assert section("fetch", content["fetch"]) == settings.fetch
    assert "source" not in identity(settings)["fetch"]


def test_the_sweep_engine_follows_the_kernel() -> None:
    assert load().sweep.engine_of("square") == "multi"
    assert load().sweep.engine_of("turbo") == "astrodrizzle"
    assert load(None, ["sweep.engine=astrodrizzle"]).sweep.engine_of("square") == "astrodrizzle"
    with pytest.raises(UsageError, match="engine multi has no kernel point; use engine astrodrizzle"):
        load(None, ["sweep.kernel=point", "sweep.engine=multi"])


def test_relative_paths_are_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks run in folders of their own, where a relative path would mean something else."""
    monkeypatch.chdir(tmp_path)
    settings = load(None, ["align.catalog=a/gaia.ecsv", "references.cache=crds", "fetch.source=raw"])
    assert settings.align.catalog == tmp_path / "a/gaia.ecsv"
    assert settings.references.cache == tmp_path / "crds"
    assert override(settings, {"fetch": {"source": Path("other")}}).fetch.source == str(tmp_path / "other")
