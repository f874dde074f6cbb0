"""What a branch imports: it says so, in every way."""

import subprocess
import sys

print("imported")
print("with a warning", file=sys.stderr)
subprocess.run(["/bin/echo", "and by a program"], check=True)
