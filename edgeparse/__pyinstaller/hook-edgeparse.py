"""The bundle, templates and schemas are files beside the code, and the public names are imported when they are first asked for, which
PyInstaller does not see. The command line and what is optional come along only where the app imports them itself."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

APART = ("bench", "cli", "coldstart", "commands", "plot", "table", "terminal", "doctor", "__main__", "__pyinstaller")

datas = collect_data_files("edgeparse")
hiddenimports = collect_submodules(
    "edgeparse", filter=lambda name: name.split(".")[1:2] == [] or name.split(".")[1] not in APART
)
excludedimports = ["scipy", "textual_image", "torch", "onnx"]
