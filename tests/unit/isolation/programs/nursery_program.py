"""A nursery for tests: its children run the Python text that they are given."""

import sys

from batch.isolation.nursery import serve

if __name__ == "__main__":

    def program(arguments: list[str]) -> int:
        status = {"status": 0}
        exec(arguments[0], status)  # noqa: S102 - text of the test itself
        return status["status"]

    sys.exit(serve(program, "child of a test"))
