"""Draw the pictures of the command line: ``make screenshots``.

The commands run for real, in the default profile, which must hold a target ``my_dos`` and a campaign, as the first tutorial
leaves it. What they print becomes an SVG by rich.
"""

import io
import os
import re
import shutil
import subprocess
from pathlib import Path

from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).with_name("images")
COLUMNS = 124
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
    text = re.sub(".\x08", "", done.stdout.replace("\r", "")).replace("\x08", "").lstrip()
    # where the profile lies on this machine is nobody's business
    return text.replace(os.environ.get("AIIDA_PATH", str(Path.home())).removesuffix("/.aiida"), "~")


def draw(output: str, command: str, path: Path) -> None:
    """Write what a command printed as a picture of a terminal."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(output.rstrip()))
    console.save_svg(str(path), title="aiida-dosmatgen", unique_id=path.stem)


def main() -> None:
    """Draw them all."""
    for name, arguments in SHOTS.items():
        draw(run(*arguments), " ".join(["aiida-dosmatgen", *arguments]), IMAGES / name)
        print(IMAGES / name)


if __name__ == "__main__":
    main()
