"""Keep pytest from collecting doctests in the input and output of a build."""

collect_ignore = ["conf.py", "generated", "_build"]
collect_ignore_glob = ["*_picture.py"]
