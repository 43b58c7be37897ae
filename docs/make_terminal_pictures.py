"""Draw the pictures of the command line, and of a campaign's page: ``make screenshots``.

The commands run for real, in the default profile, which must hold a target ``my_dos`` and a campaign (``make campaign``, and
the tutorial). What they print becomes an SVG by rich; the page is photographed by Chromium, if there is one.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).with_name("images")
COLUMNS = 110
SHOTS = {
    "cli-target.svg": ["target", "show", "my_dos"],
    "cli-status.svg": ["status", "--once"],
    "cli-doctor.svg": ["setup", "doctor"],
}


def run(*arguments: str) -> str:
    """Return what the command prints into a terminal of some width, colours included."""
    command = shutil.which("aiida-dosmatgen")
    line = " ".join([str(command), *arguments])
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    # script gives it a terminal, without which there are no colours
    done = subprocess.run(
        ["script", "-qec", f"stty cols {COLUMNS} && {line}", "/dev/null"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    # AiiDA turns a wheel while it loads the profile, by going back one character
    return re.sub(".\x08", "", done.stdout.replace("\r", "")).replace("\x08", "").lstrip()


def draw(output: str, command: str, path: Path) -> None:
    """Write what a command printed as a picture of a terminal."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(output.rstrip()))
    console.save_svg(str(path), title="aiida-dosmatgen", unique_id=path.stem)


def photograph(path: Path) -> None:
    """Write the page of the newest campaign as a picture."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        print("no Chromium here: the page is not photographed", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "campaign.html"
        run("report", "-o", str(page))
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--virtual-time-budget=8000", "--window-size=1280,1400"]
        subprocess.run([chromium, *options, f"--screenshot={path}", page.as_uri()], check=True, capture_output=True)


def main() -> None:
    """Draw them all."""
    for name, arguments in SHOTS.items():
        draw(run(*arguments), " ".join(["aiida-dosmatgen", *arguments]), IMAGES / name)
        print(IMAGES / name)
    photograph(IMAGES / "campaign-page.png")


if __name__ == "__main__":
    main()
