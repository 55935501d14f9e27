"""``python -m deconvseg``: the command line."""

from deconvseg.system.processes import leave_current_folder

# Before anything else is imported: -m puts the current folder first.
leave_current_folder()

from deconvseg.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
