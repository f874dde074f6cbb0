"""Reference files: which ones an exposure needs, where they come from, whether they are whole.

::

    needed.py     which keywords the switches of a header read
    bestrefs.py   which files CRDS names for them
    custom.py     files of the user's own in their place
    location.py   the CRDS cache and the pinned context
    service.py    what the CRDS server says, through the crds client
    catalog.py    size and sha1 of files
    checked.py    what was checked is not checked again
    sync.py       missing files into the cache: one lock, each once, whole
"""
