"""Health check of a container: ``python health.py PORT`` succeeds when the Dask dashboard there is well.

Schedulers (port 8787) and workers started with ``--dashboard-address :PORT`` answer; a driver has none.
"""

import sys
import urllib.request

with urllib.request.urlopen(f"http://127.0.0.1:{int(sys.argv[1])}/health", timeout=5) as answer:
    sys.exit(0 if answer.status == 200 else 1)
