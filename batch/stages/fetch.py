"""fetch: bring a raw exposure into the work directory and see that it is whole."""

from __future__ import annotations

import shutil
from pathlib import Path

from batch.config import Settings
from batch.config.archive import FetchSettings
from batch.errors import InputError
from batch.model.names import plain_name
from batch.model.observation import Association, Exposure, Product
from batch.model.plan import Needs, Stage
from batch.stages.interface import Inputs, Outcome, image_product, product

_BYTES_PER_SECOND = 10e6
"""What to expect of a line."""
_BYTES_PER_PIXEL = 10
"""SCI and ERR of 4 bytes at most, DQ of 2."""


def needs(association: Association, exposure: Exposure | None, settings: Settings) -> Needs:
    """A copy or a download, and one reading of the file."""
    from batch.archive.sources import is_remote

    assert exposure is not None
    pixels = exposure.chips * exposure.shape[0] * exposure.shape[1]
    memory, seconds = int(120e6 + 4 * pixels), 1 + pixels * 2e-8
    if not is_remote(settings.fetch):
        return Needs(memory, seconds, timeout=600)
    size = exposure.size or _BYTES_PER_PIXEL * pixels
    # every file has a deadline of its own: the raw, the support file, the table
    return Needs(memory, seconds + size / _BYTES_PER_SECOND, 600 + 3 * settings.fetch.deadline, network=True)


STAGE = Stage("fetch", "exposure", after=(), version=2, needs=needs, set_aside_too=True)


def run(inputs: Inputs, area: Path, settings: FetchSettings) -> Outcome:
    """Bring ``<rootname>_raw.fits``, ``_spt.fits`` if there is one, and the association's table."""
    from batch.archive.sources import is_remote
    from batch.archive.tables import Row, working_copy, write_table

    if settings.source is None:
        raise InputError("fetch.source: no folder of raw exposures was given; use --from DIR")
    exposure, association = inputs.exposure, inputs.association
    bring = _download if is_remote(settings) else _copy
    products, notes, table = bring(exposure, association, area, settings)
    if not exposure.detector:
        # nothing is known of it that the tasks to come rest on
        what = f"it could not be read when the run was planned ({exposure.trouble}), and can be now"
        raise InputError.about(exposure.origin or exposure.rootname, what, "run again")
    if exposure == association.members[0]:
        notes += [f"{association.name}: {a.rootname} is left out: {a.reason}" for a in association.absent]
    if association.member_types:
        name = f"{plain_name(association.name, 'association')}_asn.fits"
        if table is not None:
            working_copy(table, area / name)
        else:
            write_table((Row(root, kind) for root, kind in association.member_types.items()), area / name)
        products.append(product(area, name, "asn"))
    return Outcome(tuple(products), notes=tuple(notes))


def _copy(
    exposure: Exposure, association: Association, area: Path, settings: FetchSettings
) -> tuple[list[Product], list[str], Path | None]:
    """From a folder."""
    from batch.archive.items import sibling
    from batch.storage.raw import check_whole

    name = f"{exposure.rootname}_raw.fits"
    # a stand-in for an exposure that is nowhere may not know where it should be
    source = Path(exposure.origin or Path(str(settings.source).removeprefix("file://")) / name)
    if not source.is_file():
        raise InputError.about(
            source, "there is no such file", "put it there, or leave the exposure out with --exclude"
        )
    check_whole(source)
    shutil.copyfile(source, area / name)
    products = [image_product(area, name, "raw")]
    support = Path(sibling(str(source), "spt"))
    if support.is_file():
        shutil.copyfile(support, area / f"{exposure.rootname}_spt.fits")
        products.append(product(area, f"{exposure.rootname}_spt.fits", "spt"))
    return products, [], Path(association.table) if association.table else None


def _download(
    exposure: Exposure, association: Association, area: Path, settings: FetchSettings
) -> tuple[list[Product], list[str], Path | None]:
    """From MAST or a mirror, by way of the cache."""
    from batch.archive import headers, sources
    from batch.archive.cache import link
    from batch.archive.items import sibling
    from batch.archive.transfer import Order
    from batch.archive.transport import NotThereError
    from batch.storage.raw import check_whole

    transport, cache = sources.transport(settings), sources.cache(settings)
    name = f"{exposure.rootname}_raw.fits"
    raw = cache.obtain(transport, Order(exposure.origin, name, exposure.size or None), exposure.stamp)
    if exposure.detector and headers.header_stamp(exposure.size, headers.primary_head(raw)) != exposure.stamp:
        raw.unlink()
        raise InputError.about(
            exposure.origin,
            "the source has made it anew since the plan",
            "run again: it is planned anew then",
        )
    try:
        check_whole(raw)
    except InputError:
        # the next run asks the source again
        raw.unlink()
        raise
    link(raw, area / name)
    products, notes, table = [image_product(area, name, "raw")], [], None
    support = Order(sibling(exposure.origin, "spt"), f"{exposure.rootname}_spt.fits", None)
    try:
        link(cache.obtain(transport, support, exposure.stamp), area / support.name)
        products.append(product(area, support.name, "spt"))
    except NotThereError:
        notes.append(f"{exposure.rootname}: the source has no support file ({support.name})")
    if association.table:
        order = Order(association.table, f"{association.name}_asn.fits", None)
        # one version for all members
        table = cache.obtain(transport, order, association.members[0].stamp)
    return products, notes, table
