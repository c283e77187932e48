"""Package examples/app.py with PyInstaller, run it without Python, and print its size. Usage: `python examples/package_app.py [FOLDER]`.

Run it in an environment with only `pip install ".[cpu]" pyinstaller` of a clone, because other installed packages may be included.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PICTURE = HERE.parent / "samples" / "camera-dog.jpg"
# Parts of the standard library and of dependencies that the app does not use.
UNUSED = ("tkinter", "unittest", "pydoc", "doctest", "lib2to3", "numpy.f2py", "numpy.testing", "rich", "click")


def build(folder: Path) -> Path:
    """Package the app and return its folder."""
    command = [sys.executable, "-m", "PyInstaller", str(HERE / "app.py"), "--name", "app", "--noconfirm", "--onedir"]
    command += ["--distpath", str(folder), "--workpath", str(folder / "work"), "--specpath", str(folder)]
    for module in UNUSED:
        command += ["--exclude-module", module]
    subprocess.run([*command, "--log-level", "ERROR"], check=True)
    return folder / "app"


def libraries(program: Path) -> list[Path]:
    """Return the shared libraries of the operating system that a program links to."""
    lines = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout.split()
    return [Path(word) for word in lines if word.startswith("/")]


def run_without_python(app: Path) -> tuple[str, str]:
    """Run the app in a root file system that holds only the app, an image and the C library.

    Without root privileges, run it with an empty environment instead.

    Returns:
        Which of the two, and the app's output.
    """
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        shutil.copytree(app, root / "app", symlinks=True)
        shutil.copy(PICTURE, root / "picture.jpg")
        (root / "tmp").mkdir()
        chroot = shutil.which("chroot", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if chroot and os.geteuid() == 0:
            needed = {library for file in (app, *app.rglob("*.so*")) if file.is_file() for library in libraries(file)}
            for library in {*needed, *libraries(app / "app")}:
                if not (root / library.relative_to("/")).exists() and app not in library.parents:
                    (root / library.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(library, root / library.relative_to("/"))
            command, where = [chroot, str(root), "/app/app", "picture.jpg"], "a root file system without Python"
        else:
            command, where = [str(root / "app" / "app"), "picture.jpg"], "an empty environment"
        done = subprocess.run(command, cwd=root, env={}, capture_output=True, text=True, check=False)
        if done.returncode or not (root / "report.html").is_file():
            sys.exit(f"the packaged app failed in {where}: {done.stdout}{done.stderr}")
        return where, done.stdout.strip()


def main(folder: Path) -> None:
    """Package the app, run it, and print its size as JSON."""
    app = build(folder)
    files = [path for path in app.rglob("*") if path.is_file() and not path.is_symlink()]
    where, output = run_without_python(app)
    size = sum(path.stat().st_size for path in files) / 1e6
    largest = sorted(files, key=lambda path: -path.stat().st_size)[:5]
    print(
        json.dumps(
            {
                "size_mb": round(size, 1),
                "files": len(files),
                "largest_mb": {str(p.relative_to(app)): round(p.stat().st_size / 1e6, 1) for p in largest},
                "ran_in": where,
                "said": output,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).resolve())
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
