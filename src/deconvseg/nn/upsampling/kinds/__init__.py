"""The kinds of upsampling that come with the package: a file here registers one, and nothing else names it."""

import importlib
import pkgutil

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
