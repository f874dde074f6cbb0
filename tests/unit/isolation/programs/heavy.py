"""What a branch imports: it tells who has imported it."""

import os

BY = os.getpid()
