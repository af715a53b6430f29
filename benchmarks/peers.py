"""The C program with the operating system's own figures: built when needed, run once a round."""

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("peers.c")


def build(folder: Path) -> Path:
    """Compile peers.c into `folder`; SystemExit with a plain sentence when there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise SystemExit("make bench needs a C compiler (cc, gcc or clang): the peers are a small C program")
    program = folder / "peers"
    subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-o", program, SOURCE], check=True)
    return program


def run(program: Path, *arguments: object) -> float:
    """One run of the program: seconds for one operation."""
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout) / 1e9
