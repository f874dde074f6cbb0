"""Reference files: which ones an exposure needs, where they come from, whether they are whole.

::

    needed.py     which keywords the switches of a header read
    bestrefs.py   which files CRDS names for them (recommend.py)
    custom.py     files of the user's own in their place
    location.py   the CRDS cache
    context.py    which cache, server and context a run has
    service.py    what the CRDS server says, through the crds client (client.py)
    catalog.py    size and sha1 of files
    checked.py    what was checked is not checked again
    obtain.py     from names to files that may be used
    sync.py       missing files into the cache: one lock, each once, whole (download.py)
"""
