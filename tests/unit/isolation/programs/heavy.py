"""What a branch imports: it tells who has imported it, and says more than it should."""

import os

print("imported")
BY = os.getpid()
