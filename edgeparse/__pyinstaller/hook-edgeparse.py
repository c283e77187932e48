"""Collect what PyInstaller cannot see: data files, and public names that are imported lazily.

The command line and optional parts are included only if the app imports them itself.
"""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

EXCLUDED = ("bench", "cli", "__main__", "__pyinstaller")


def _included(name: str) -> bool:
    package = name.split(".")[1:2]
    return package not in ([part] for part in EXCLUDED) and name != "edgeparse.render.terminal"


datas = collect_data_files("edgeparse")
hiddenimports = collect_submodules("edgeparse", filter=_included)
excludedimports = ["av", "scipy", "textual_image", "torch", "onnx"]
