"""Start a command several times at once, as `srun` does on several machines: `as_nodes.py COUNT COMMAND ...`."""

import subprocess
import sys

nodes = [subprocess.Popen(sys.argv[2:]) for _ in range(int(sys.argv[1]))]
sys.exit(max(abs(node.wait()) for node in nodes))
