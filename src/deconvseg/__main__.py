"""``python -m deconvseg``: the command line."""

from deconvseg.system.processes import leave_current_folder

# Comes before all other imports, because -m puts the current folder first on the module search path.
leave_current_folder()

from deconvseg.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
