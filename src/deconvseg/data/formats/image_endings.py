"""Suffixes of unsupported images, and of files that often accompany images."""

# Unsupported image formats: medical, scientific, microscopy, pictures, cameras and videos.
UNREAD = frozenset(
    (
        *(".nia", ".mnc", ".mnc2", ".head", ".brik", ".gipl", ".vtk", ".vti", ".par"),
        *(".rec", ".spr", ".pic", ".mrc", ".map", ".em", ".fdf", ".npy", ".npz", ".mat", ".h5", ".hdf5", ".hdf"),
        *(".he5", ".zarr", ".n5", ".pt", ".raw", ".zraw", ".cfl", ".fits", ".fit", ".fts", ".czi", ".lif", ".lsm"),
        *(".nd2", ".oib", ".oif", ".oir", ".ims", ".vsi", ".svs", ".ndpi", ".scn", ".mrxs", ".bif", ".vms"),
        *(".qptiff", ".stk", ".dv", ".flex", ".lei", ".sld", ".apng", ".jp2", ".j2k", ".j2c"),
        *(".jpx", ".jpf", ".jpc", ".jfif", ".jpe", ".jxl", ".jxr", ".heic", ".heif", ".avif", ".ppm", ".pgm", ".pbm"),
        *(".pnm", ".pam", ".pfm", ".tga", ".psd", ".xcf", ".exr", ".pcx", ".dds", ".dib", ".ico", ".sgi", ".rgb"),
        *(".ras", ".xbm", ".xpm", ".eps", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".avi", ".mp4"),
        *(".mov", ".mkv", ".mpg", ".mpeg", ".wmv", ".webm"),
    )
)
DICOM = frozenset((".dcm", ".dicom", ".dic", ".ima"))
PACKED = frozenset((".gz", ".bz2", ".xz", ".zst", ".z", ".zip", ".lz4"))

# Files next to images that are not images: texts, tables, programs, surfaces and signals.
COMPANIONS = frozenset(
    (
        *(".json", ".jsonl", ".txt", ".md", ".rst", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg"),
        *(".html", ".htm", ".css", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".ods", ".odt", ".ppt", ".pptx", ".rtf"),
        *(".tex", ".bib", ".log", ".bval", ".bvec", ".bvals", ".bvecs", ".py", ".ipynb", ".sh", ".m", ".r", ".c"),
        *(".js", ".bat", ".md5", ".sha1", ".sha256", ".sha512", ".lnk", ".url", ".db", ".sqlite", ".lock", ".tmp"),
        *(".bak", ".part", ".label", ".ctbl", ".lut", ".gii", ".tck", ".trk", ".trx", ".surf", ".annot", ".stl"),
        *(".ply", ".obj", ".vtp", ".eeg", ".edf", ".set", ".bdf", ".vhdr", ".vmrk", ".fif", ".wav", ".mp3", ".tfm"),
        *(".zip", ".tar", ".7z", ".rar", ".tgz", ".safetensors", ".pth", ".onnx", ".svg"),
    )
)

# Folders that systems create for version control, previews and copies.
SYSTEM_FOLDERS = frozenset(
    (".git", ".datalad", ".ipynb_checkpoints", ".thumbnails", ".trashes", "__macosx", "@eadir", "thumbs", "thumbnails")
)

# The first bytes of image files.
SIGNATURES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"n+1\0", b"ni1\0", b"NRRD0")
