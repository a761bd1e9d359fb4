"""The commands of `pipeline`, a file for those that belong together; their shared options in `options`.

Everything heavy is imported inside a command, so that `pipeline --help` is quick.
"""
