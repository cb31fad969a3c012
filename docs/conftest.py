"""For pytest, which looks for doctests here: not in what a build reads or writes."""

collect_ignore = ["conf.py", "generated", "_build"]
collect_ignore_glob = ["*_picture.py"]
