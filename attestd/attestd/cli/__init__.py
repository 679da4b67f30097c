"""The command line of operators: `attestd --help` lists it.

Commands decide nothing: they read arguments, call a service, and show what it says. Exit codes are in `attestd.cli.failures`.
"""
