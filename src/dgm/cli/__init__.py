"""The command line: one thin file a verb, each with ``add_arguments(parser)`` and ``run(args) -> int``."""
