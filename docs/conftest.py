"""For pytest, which looks for doctests here: not in what a build has written."""

collect_ignore = ["conf.py", "generated", "_build"]
