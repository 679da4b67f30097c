"""What every test may ask for without importing it."""

pytest_plugins = ("postgres",)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their length: keys of this run in a test's name would differ from worker to worker."""
    return f"{argname}{len(val)}" if isinstance(val, bytes) else None
