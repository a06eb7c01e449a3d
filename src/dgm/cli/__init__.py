"""The command line: one short module for each verb, with ``add_arguments(parser)`` and ``run(args) -> int``."""
