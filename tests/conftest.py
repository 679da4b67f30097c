"""What every test may ask for without importing it."""

pytest_plugins = ("postgres",)
