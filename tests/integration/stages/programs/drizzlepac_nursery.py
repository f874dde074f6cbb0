"""The nursery of tasks, with drizzlepac imported as well."""

import sys

import drizzlepac.astrodrizzle
import drizzlepac.tweakreg  # noqa: F401

from batch.runtime.nursery import main

if __name__ == "__main__":
    sys.exit(main())
