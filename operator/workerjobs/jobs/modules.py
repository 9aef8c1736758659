"""Importing the users' modules: by name, by the path of a file, or all files of a folder."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

FILE_MODULE_PREFIX = "workerjobs_jobs_"
"""What the name of a module begins with that was imported from a file's path."""


def import_job_module(name: str) -> None:
    """Import a module by name, or a ``.py`` file by its path.

    Raises:
        ImportError: There is no such module or file. Besides, whatever the module itself raises.
    """
    if not name.endswith(".py") and "/" not in name:
        importlib.import_module(name)
        return
    path = Path(name).resolve()
    if path.is_dir() or name.endswith("/"):
        raise ImportError(f"there is no folder {name} with .py files")
    if not path.is_file():
        raise ImportError(f"there is no file {name}")
    module_name = f"{FILE_MODULE_PREFIX}{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{name} is no Python file")
    # Files beside it can be imported, as if it had been started as a script.
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise


def files_of(name: str) -> list[str]:
    """The job modules in a folder, by name; none where the name is no folder, or that of a package.

    Files whose names begin with an underscore are left for the others to import.
    """
    folder = Path(name)
    if not folder.is_dir() or ("/" not in name and (folder / "__init__.py").exists()):
        return []
    return sorted(str(file) for file in folder.glob("*.py") if not file.name.startswith("_"))
