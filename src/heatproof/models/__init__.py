"""Models in and out: folders and files, networks of libraries, users' own factories; each with its card."""
