"""Makes the site and checks it: ``python -m docs.site`` (``make docs``); ``figures`` draws docs/figures anew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from docs.site import figures
from docs.site.assemble import assemble
from docs.site.check import check
from docs.site.errors import SiteError
from docs.site.slim import slim

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str]) -> int:
    """Exit status: 0 if all is well, 1 with a sentence if not."""
    if arguments == ["figures"]:
        figures.write(ROOT / "docs" / "figures")
        return 0
    try:
        config = assemble(ROOT)
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--config-file", str(config)]
        # Material advertises its successor at every build.
        if subprocess.run(command, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, check=False).returncode:
            return 1
        slim(ROOT / "build" / "site")
        front = check(ROOT / "build" / "site")
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"build/site/index.html: the front page loads {front / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
