"""What every test may ask for without importing it."""

pytest_plugins = ("postgres",)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument: a key of this run, or a signature's length, would differ from worker to worker."""
    return argname if isinstance(val, bytes) else None
