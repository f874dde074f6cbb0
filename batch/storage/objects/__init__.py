"""The work directory in an object store: a prefix of a bucket that speaks S3.

::

    <prefix>/plan.json run.json lock.json
    <prefix>/products/<stage>/<subject>/record.json            the commit mark: it names the attempt
    <prefix>/products/<stage>/<subject>/<attempt>/             its files; written once, never changed
    <prefix>/failures/<stage>/<subject>/attempt-<n>/
    <prefix>/report/index.html
    <prefix>/records.json.gz                                   a copy of all records, to read them at once

Nothing can be renamed in an object store, so the one step in which products appear is the writing of
``record.json``. It is conditional on what was there when the attempt began. That settles every race:

* Two workers do the same task: both upload, each under its own attempt; the first record stands, the second
  worker finds it, takes its own files back and returns the record that stands.
* A worker is killed during its upload: no record names its files; `clean` removes them.
* A reader goes by a record, and the files of that attempt stay as they are until `clean`, whatever is
  published in the meantime.
* A worker that no run knows of any more comes late, with older settings: what it began from has been
  replaced, so its record is refused.
"""
